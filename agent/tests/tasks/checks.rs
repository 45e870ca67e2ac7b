//! Health and readiness checks of real tasks, in real namespaces, over restarts of the agent.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use model::{
    CheckAddress, Command, HealthCheck, LaunchSpec, Probe, ReadinessCheck, Scheme, TaskNetwork, TaskState, TaskStatus,
};

use crate::node::{self, Node, eventually, me, spec};

/// `serve PORT [tls]`: answers every request with the status in the file `say` of its directory, and counts them in
/// `asked`. Without the file it closes the connection.
pub(crate) fn serve(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let port: u16 = args
        .next()
        .and_then(|port| port.to_str()?.parse().ok())
        .expect("a port");
    let tls = args.next().is_some().then(tls_config);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind");
    let mut asked = fs::File::create("asked").expect("a file");
    for client in listener.incoming().map_while(Result::ok) {
        let _ = match &tls {
            None => answer(client),
            Some(config) => {
                let session = rustls::ServerConnection::new(Arc::clone(config)).expect("a session");
                answer(rustls::StreamOwned::new(session, client))
            }
        };
        asked.write_all(b".").expect("counts");
    }
    ExitCode::SUCCESS
}

fn answer(mut client: impl Read + Write) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.extend(byte);
    }
    if let Ok(status) = fs::read_to_string("say") {
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n\r\nI am {status}"
        )?;
        client.flush()?;
    }
    Ok(())
}

fn tls_config() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["test".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.expect("a configuration"))
}

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        delay: Duration::ZERO,
        interval: Duration::from_millis(20),
        timeout: node::DEADLINE,
        grace: Duration::ZERO,
        max_failures: 3,
    }
}

fn http(scheme: Scheme, at: CheckAddress, port: u16) -> HealthCheck {
    check(Probe::Http {
        scheme,
        at,
        port,
        path: "/up".to_owned(),
        ignore_1xx: false,
    })
}

fn server(id: &str, port: u16, more: &str) -> LaunchSpec {
    spec(
        id,
        &format!("echo 200 OK > say; exec {} serve {port} {more}", me().display()),
    )
}

/// The file of that name in the task's sandbox.
fn file(node: &Node, task: &str, name: &str) -> PathBuf {
    node.state().join("sandboxes").join(task).join(name)
}

fn asked(node: &Node, task: &str) -> usize {
    fs::read(file(node, task, "asked")).map_or(0, |counted| counted.len())
}

/// The next status, which is RUNNING: its health, failures in a row and cause.
fn told(node: &mut Node, task: &str) -> (Option<bool>, u32, Option<String>) {
    let status = node.until_state(task, TaskState::Running);
    let result = status.checks.health.first().cloned().unwrap_or_default();
    (status.healthy, result.failures, result.cause)
}

/// Waits for a verdict; before the server listens there may be failures.
fn until_healthy(node: &mut Node, task: &str, wanted: bool) -> TaskStatus {
    loop {
        let status = node.until_state(task, TaskState::Running);
        if status.healthy == Some(wanted) {
            return status;
        }
    }
}

fn end(node: &mut Node, task: &str) {
    node.kill(task, None);
    node.until_end(task);
}

pub(crate) fn health_is_told_when_it_changes() {
    node::set_loopback_up();
    let mut node = Node::new();
    let mut task = server("web", 5601, "");
    task.checks.health = vec![http(Scheme::Http, CheckAddress::LoopbackV4, 5601)];
    node.launch(task);
    let well = until_healthy(&mut node, "web", true);
    let result = &well.checks.health[0];
    assert!(result.alive == Some(true) && result.first_success_ms.is_some());
    let before = asked(&node, "web");
    eventually("many more checks succeed", || asked(&node, "web") > before + 10);
    fs::write(file(&node, "web", "say"), "503 Busy").expect("writes");
    let cause = Some("port 5601: /up answered 503 Busy".to_owned());
    for failures in 1..=3 {
        assert_eq!(
            told(&mut node, "web"),
            (Some(false), failures, cause.clone()),
            "one status for each change"
        );
    }
    let message = node.last("web").message.expect("a message");
    assert_eq!(
        message,
        "health check 0 failed 3 times in a row: port 5601: /up answered 503 Busy"
    );
    let before = asked(&node, "web");
    eventually("many more checks fail", || asked(&node, "web") > before + 10);
    fs::write(file(&node, "web", "say"), "200 OK").expect("writes");
    let (healthy, failures, _) = told(&mut node, "web");
    assert_eq!((healthy, failures), (Some(true), 0));
    fs::remove_file(file(&node, "web", "say")).expect("removes");
    let (healthy, failures, cause) = told(&mut node, "web");
    assert_eq!((healthy, failures), (Some(false), 1));
    assert!(cause.is_some_and(|cause| cause.contains("without an answer")));
    end(&mut node, "web");
}

pub(crate) fn failures_in_the_grace_period_do_not_count() {
    node::set_loopback_up();
    let mut node = Node::new();
    let mut task = server("slow", 5602, "");
    task.command = Command::Shell("while [ ! -e go ]; do sleep 0.01; done; ".to_owned() + &shell(&task));
    let mut graceful = http(Scheme::Http, CheckAddress::Task, 5602);
    graceful.grace = Duration::from_secs(3600);
    task.checks.health = vec![graceful];
    node::add_own_address("192.0.2.1/32");
    node.launch(task);
    assert_eq!(
        told(&mut node, "slow"),
        (None, 0, None),
        "it runs, nothing was asked yet"
    );
    let (healthy, failures, cause) = told(&mut node, "slow");
    assert_eq!((healthy, failures), (None, 0));
    assert!(
        cause.is_some_and(|cause| cause.contains("refused")),
        "why it waits is told"
    );
    fs::write(file(&node, "slow", "go"), "").expect("writes");
    assert_eq!(told(&mut node, "slow").0, Some(true));
    fs::write(file(&node, "slow", "say"), "500 No").expect("writes");
    assert_eq!(
        told(&mut node, "slow").0,
        Some(false),
        "after the first success they count"
    );
    end(&mut node, "slow");
}

fn shell(task: &LaunchSpec) -> String {
    match &task.command {
        Command::Shell(text) => text.clone(),
        Command::Argv(argv) => panic!("{argv:?}"),
    }
}

pub(crate) fn checks_run_inside_the_tasks_namespaces() {
    node::set_loopback_up();
    let mut node = Node::new();
    node.open_to_all();
    node::add_own_address("9.0.3.1/32");
    node.set_subnet("9.0.3.0/24");
    let mut task = server("box", 80, "");
    task.network = TaskNetwork::Container {
        name: "dcos".to_owned(),
    };
    task.env.insert("COLOUR".to_owned(), "blue".to_owned());
    let tcp = |at| check(Probe::Tcp { at, port: 80 });
    let script = "test \"$(cat /etc/resolv.conf)\" = 'nameserver 198.51.100.1' && test $COLOUR = blue && test -e say \
                  && test $(wc -l < /proc/net/dev) = 4 && touch was-here";
    task.checks.health = vec![
        tcp(CheckAddress::LoopbackV4),
        tcp(CheckAddress::Task),
        http(Scheme::Http, CheckAddress::LoopbackV4, 80),
        check(Probe::Command(Command::Shell(script.to_owned()))),
    ];
    node.launch(task);
    until_healthy(&mut node, "box", true);
    assert!(
        file(&node, "box", "was-here").exists(),
        "the command ran in the sandbox"
    );
    end(&mut node, "box");
}

pub(crate) fn a_command_runs_as_the_tasks_user_and_its_words_are_told() {
    let mut node = Node::new();
    node.open_to_all();
    let mut task = spec("user", "exec sleep 1000");
    task.user = Some("nobody".to_owned());
    let script = "echo nothing; id -un >&2; exit 9";
    task.checks.health = vec![check(Probe::Command(Command::Shell(script.to_owned())))];
    node.launch(task);
    until_healthy(&mut node, "user", false);
    let cause = node.last("user").checks.health[0].cause.clone();
    assert_eq!(cause.as_deref(), Some("the command ended with status 9: nobody"));
    end(&mut node, "user");
}

pub(crate) fn a_command_that_takes_too_long_is_ended_with_its_children() {
    let mut node = Node::new();
    let mut task = spec("hang", "exec sleep 1000");
    let script = "sleep 2000 & echo $! > child; echo $$ > parent; wait";
    task.checks.health = vec![HealthCheck {
        timeout: Duration::from_millis(300),
        interval: Duration::from_secs(3600),
        ..check(Probe::Command(Command::Shell(script.to_owned())))
    }];
    node.launch(task);
    until_healthy(&mut node, "hang", false);
    let cause = node.last("hang").checks.health[0].cause.clone();
    assert_eq!(cause.as_deref(), Some("no result within 0.3 s"));
    for name in ["parent", "child"] {
        let pid = fs::read_to_string(file(&node, "hang", name)).expect("the command had begun");
        let gone = || PathBuf::from(format!("/proc/{}/exe", pid.trim())).read_link().is_err();
        eventually("the command is gone", gone);
    }
    assert_eq!(
        node.last("hang").state,
        TaskState::Running,
        "the agent ends no task by itself"
    );
    end(&mut node, "hang");
}

pub(crate) fn checks_go_on_after_a_restart_of_the_agent() {
    node::set_loopback_up();
    let mut node = Node::new();
    let mut task = server("stays", 5603, "");
    task.checks.health = vec![http(Scheme::Http, CheckAddress::LoopbackV4, 5603)];
    node.launch(task);
    until_healthy(&mut node, "stays", true);
    node.close();
    let before = asked(&node, "stays");
    fs::write(file(&node, "stays", "say"), "500 No").expect("writes");
    node.open();
    assert_eq!(told(&mut node, "stays").0, Some(true), "what was known is told first");
    assert_eq!(told(&mut node, "stays").0, Some(false), "then what is new");
    assert!(asked(&node, "stays") > before);
    end(&mut node, "stays");
}

pub(crate) fn tls_is_answered_with_any_certificate() {
    node::set_loopback_up();
    let mut node = Node::new();
    let mut task = server("tls", 5604, "tls");
    task.checks.health = vec![http(Scheme::Https, CheckAddress::LoopbackV4, 5604)];
    node.launch(task);
    until_healthy(&mut node, "tls", true);
    end(&mut node, "tls");
}

pub(crate) fn readiness_is_asked_until_it_was_reached() {
    node::set_loopback_up();
    node::add_own_address("192.0.2.1/32");
    let mut node = Node::new();
    let mut task = server("ready", 5605, "");
    task.command = Command::Shell(format!("echo 503 Warming > say; exec {} serve 5605", me().display()));
    task.checks.readiness = vec![ReadinessCheck {
        name: "r".to_owned(),
        scheme: Scheme::Http,
        port: 5605,
        path: "/".to_owned(),
        interval: Duration::from_millis(20),
        timeout: node::DEADLINE,
        ready_codes: [200].into(),
        keep_response: true,
    }];
    node.launch(task);
    let answered = loop {
        let status = node.until_state("ready", TaskState::Running);
        if let Some(response) = status
            .checks
            .readiness
            .first()
            .and_then(|result| result.response.clone())
        {
            assert_eq!(status.healthy, None, "readiness is not health");
            break response;
        }
    };
    assert_eq!((answered.status, answered.body.trim()), (503, "I am 503 Warming"));
    assert_eq!(answered.content_type, "text/plain");
    fs::write(file(&node, "ready", "say"), "200 OK").expect("writes");
    let ready = node.until_state("ready", TaskState::Running);
    assert!(ready.checks.readiness[0].ready);
    let asked_then = asked(&node, "ready");
    // A health check of another task goes on meanwhile; this one is asked no more.
    let mut other = spec("other", "exec sleep 1000");
    other.checks.health = vec![check(Probe::Command(Command::Shell("echo . >> runs".to_owned())))];
    node.launch(other);
    eventually("another check runs many times", || {
        fs::read(file(&node, "other", "runs")).is_ok_and(|runs| runs.len() > 20)
    });
    assert_eq!(asked(&node, "ready"), asked_then);
    end(&mut node, "other");
    end(&mut node, "ready");
}
