//! Real tasks under a real agent: output, kills, readiness, recovery, a container's network, and nothing left behind.
//!
//! The binary is also the runner, the listener and the daemon that gets killed: `harness = false`. As an ordinary user,
//! or without cgroups, it says so and passes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "the whole binary is a test, and prints its own report"
)]

#[path = "tasks/checks.rs"]
mod checks;
#[path = "tasks/containers.rs"]
mod containers;
#[path = "tasks/node.rs"]
mod node;
#[path = "tasks/outputs.rs"]
mod outputs;
#[path = "tasks/pods.rs"]
mod pods;
#[path = "tasks/sessions.rs"]
mod sessions;
#[path = "tasks/volumes.rs"]
mod volumes;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use agent::AgentEvent;
use model::{KillPolicy, ReadyRule, TaskId, TaskNetwork, TaskState};
use node::{Node, eventually, me, spec};

/// What the listener says to everyone.
const GREETING: &str = "hello\n";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    match first.as_deref().and_then(|first| first.to_str()) {
        Some("task-runner") => return agent::run_task(args),
        Some("listen") => return listen(args),
        Some("serve") => return checks::serve(args),
        Some("daemon") => return node::daemon(args),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    if let Some(reason) = node::cannot_run() {
        println!("agent tasks: skipped, {reason}");
        return ExitCode::SUCCESS;
    }
    if first.as_deref() == Some(std::ffi::OsStr::new("o4")) && std::env::var_os("AGENT_TEST_NAMESPACED").is_some() {
        containers::o4();
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("AGENT_TEST_NAMESPACED").is_none() {
        return in_fresh_namespaces();
    }
    run_tests(first.as_ref())
}

/// Runs this program again in network and mount namespaces of its own.
fn in_fresh_namespaces() -> ExitCode {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(me())
        .args(std::env::args_os().skip(1));
    let error = unshare.env("AGENT_TEST_NAMESPACED", "1").exec();
    println!("cannot execute unshare: {error}");
    ExitCode::FAILURE
}

fn run_tests(filter: Option<&OsString>) -> ExitCode {
    let tests: &[(&str, fn())] = &[
        ("output_and_status_zero", output_and_status_zero),
        ("another_status_fails", another_status_fails),
        (
            "what_cannot_start_fails_with_a_reason",
            what_cannot_start_fails_with_a_reason,
        ),
        (
            "a_stubborn_task_is_killed_with_its_children",
            a_stubborn_task_is_killed_with_its_children,
        ),
        ("a_polite_task_ends_at_sigterm", a_polite_task_ends_at_sigterm),
        ("running_means_listening", running_means_listening),
        (
            "a_silent_task_is_unhealthy_until_it_listens",
            a_silent_task_is_unhealthy_until_it_listens,
        ),
        ("tasks_outlive_a_killed_daemon", tasks_outlive_a_killed_daemon),
        ("a_kill_goes_on_after_a_restart", a_kill_goes_on_after_a_restart),
        ("a_container_has_its_own_network", a_container_has_its_own_network),
        ("a_greedy_task_is_told_so", a_greedy_task_is_told_so),
        ("damage_is_set_aside", damage_is_set_aside),
        (
            "a_session_is_in_its_task_with_its_user",
            sessions::a_session_is_in_its_task_with_its_user,
        ),
        ("a_session_has_a_terminal", sessions::a_session_has_a_terminal),
        (
            "nothing_of_a_session_outlives_who_asked",
            sessions::nothing_of_a_session_outlives_who_asked,
        ),
        (
            "sessions_that_cannot_be_are_refused_with_a_sentence",
            sessions::sessions_that_cannot_be_are_refused_with_a_sentence,
        ),
        (
            "what_a_task_writes_is_bounded_and_its_end_is_there",
            outputs::what_a_task_writes_is_bounded_and_its_end_is_there,
        ),
        ("a_flood_fills_no_disk", outputs::a_flood_fills_no_disk),
        (
            "what_does_not_have_its_checksum_is_refused",
            outputs::what_does_not_have_its_checksum_is_refused,
        ),
        (
            "nothing_is_left_of_a_session_whose_asker_goes_while_it_begins",
            sessions::nothing_is_left_of_a_session_whose_asker_goes_while_it_begins,
        ),
        (
            "a_session_that_does_not_begin_is_given_up",
            sessions::a_session_that_does_not_begin_is_given_up,
        ),
        (
            "tasks_start_while_something_is_removed",
            outputs::tasks_start_while_something_is_removed,
        ),
        (
            "a_full_disk_loses_the_oldest_sandboxes_first",
            outputs::a_full_disk_loses_the_oldest_sandboxes_first,
        ),
        (
            "secrets_are_variables_and_files_of_their_task_alone",
            volumes::secrets_are_variables_and_files_of_their_task_alone,
        ),
        (
            "a_volume_is_its_users_to_write",
            volumes::a_volume_is_its_users_to_write,
        ),
        (
            "volumes_are_never_shared_and_go_only_when_nobody_uses_them",
            volumes::volumes_are_never_shared_and_go_only_when_nobody_uses_them,
        ),
        ("health_is_told_when_it_changes", checks::health_is_told_when_it_changes),
        (
            "failures_in_the_grace_period_do_not_count",
            checks::failures_in_the_grace_period_do_not_count,
        ),
        (
            "checks_run_inside_the_tasks_namespaces",
            checks::checks_run_inside_the_tasks_namespaces,
        ),
        (
            "a_command_runs_as_the_tasks_user_and_its_words_are_told",
            checks::a_command_runs_as_the_tasks_user_and_its_words_are_told,
        ),
        (
            "a_command_that_takes_too_long_is_ended_with_its_children",
            checks::a_command_that_takes_too_long_is_ended_with_its_children,
        ),
        (
            "checks_go_on_after_a_restart_of_the_agent",
            checks::checks_go_on_after_a_restart_of_the_agent,
        ),
        (
            "tls_is_answered_with_any_certificate",
            checks::tls_is_answered_with_any_certificate,
        ),
        (
            "readiness_is_asked_until_it_was_reached",
            checks::readiness_is_asked_until_it_was_reached,
        ),
        (
            "a_pod_shares_a_network_and_directories",
            pods::a_pod_shares_a_network_and_directories,
        ),
        (
            "a_container_that_fails_ends_its_pod_and_one_that_is_done_does_not",
            pods::a_container_that_fails_ends_its_pod_and_one_that_is_done_does_not,
        ),
        (
            "a_pod_of_which_one_cannot_start_does_not_start",
            pods::a_pod_of_which_one_cannot_start_does_not_start,
        ),
        (
            "a_pod_outlives_the_agent_and_is_torn_by_none",
            pods::a_pod_outlives_the_agent_and_is_torn_by_none,
        ),
        (
            "a_pod_of_which_a_part_is_missing_ends",
            pods::a_pod_of_which_a_part_is_missing_ends,
        ),
    ];
    let in_images: &[(&str, fn())] = &[
        (
            "containers_of_a_pod_share_what_processes_write",
            pods::containers_of_a_pod_share_what_processes_write,
        ),
        (
            "a_session_in_a_container_has_its_rights_only",
            sessions::a_session_in_a_container_has_its_rights_only,
        ),
        ("an_image_is_the_tasks_root", containers::an_image_is_the_tasks_root),
        ("a_container_is_confined", containers::a_container_is_confined),
        (
            "parameters_change_the_container",
            containers::parameters_change_the_container,
        ),
        (
            "ends_are_told_through_the_init",
            containers::ends_are_told_through_the_init,
        ),
        ("volumes_are_mounted", containers::volumes_are_mounted),
        (
            "a_container_has_its_secrets_too",
            volumes::a_container_has_its_secrets_too,
        ),
        (
            "volumes_outlive_tasks_and_daemons",
            volumes::volumes_outlive_tasks_and_daemons,
        ),
        (
            "bad_images_are_refused_with_a_sentence",
            containers::bad_images_are_refused_with_a_sentence,
        ),
        (
            "archives_of_docker_save_are_images",
            containers::archives_of_docker_save_are_images,
        ),
        (
            "what_is_fetched_is_there_first",
            containers::what_is_fetched_is_there_first,
        ),
        (
            "a_container_outlives_a_killed_daemon",
            containers::a_container_outlives_a_killed_daemon,
        ),
        (
            "a_container_with_its_own_network_has_its_own_name",
            containers::a_container_with_its_own_network_has_its_own_name,
        ),
        (
            "a_greedy_container_is_told_so",
            containers::a_greedy_container_is_told_so,
        ),
        (
            "checks_run_inside_a_container_with_its_rights",
            containers::checks_run_inside_a_container_with_its_rights,
        ),
        (
            "downloads_are_kept_or_told_or_given_up",
            containers::downloads_are_kept_or_told_or_given_up,
        ),
    ];
    let in_images = match containers::cannot_run() {
        Some(reason) => {
            println!("containers: skipped, {reason}");
            &[]
        }
        None => in_images,
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests.iter().chain(in_images) {
        if filter
            .and_then(|filter| filter.to_str())
            .is_some_and(|filter| !name.contains(filter))
        {
            continue;
        }
        let result = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        passed += u32::from(result.is_ok());
        failed += u32::from(result.is_err());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `listen PORT [FILE]`: waits for the file, then greets every client.
fn listen(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let port: u16 = args
        .next()
        .and_then(|port| port.to_str()?.parse().ok())
        .expect("a port");
    if let Some(file) = args.next() {
        while !Path::new(&file).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind");
    for client in listener.incoming() {
        let _ = client.and_then(|mut client| client.write_all(GREETING.as_bytes()));
    }
    ExitCode::SUCCESS
}

fn output_and_status_zero() {
    let mut node = Node::new();
    let mut task = spec(
        "echo",
        "echo \"$GREETING $HOST $MESOS_TASK_ID\"; pwd; echo no >&2; ls /proc/self/fd | wc -l; env",
    );
    task.env.insert("GREETING".to_owned(), "hi".to_owned());
    node.launch(task);
    let states = node.states_until_end("echo");
    // A program that is over at once may end before it is seen to run.
    let ends = (states.first(), states.last());
    assert_eq!(
        ends,
        (Some(&TaskState::Starting), Some(&TaskState::Finished)),
        "{states:?}"
    );
    let sandbox = node.state().join("sandboxes/echo");
    let stdout = fs::read_to_string(sandbox.join("stdout")).expect("stdout");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "hi node-1 echo");
    assert_eq!(Path::new(lines[1]), sandbox);
    // stdin, stdout, stderr and the directory that ls itself reads.
    assert_eq!(lines[2].trim(), "4", "a descriptor of the agent was inherited");
    assert!(
        !stdout.contains("AGENT_TEST_NAMESPACED"),
        "the agent's environment leaked:\n{stdout}"
    );
    let own = me().parent().expect("a directory").display().to_string();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("PATH=") && line.ends_with(&own)),
        "{stdout}"
    );
    assert_eq!(fs::read_to_string(sandbox.join("stderr")).expect("stderr"), "no\n");
    node.acknowledge("echo");
    eventually("the task's directory is gone", || {
        !node.state().join("tasks/echo").exists()
    });
}

fn another_status_fails() {
    let mut node = Node::new();
    node.launch(spec("three", "exit 3"));
    node.launch(spec("self", "kill -9 $$"));
    node.states_until_end("three");
    node.states_until_end("self");
    assert_eq!(node.last("three").message.as_deref(), Some("exited with status 3"));
    assert_eq!(node.last("self").message.as_deref(), Some("killed by signal 9"));
    assert_eq!(node.last("self").state, TaskState::Failed);
    let exited = node.seen.iter().position(|event| {
        *event
            == AgentEvent::Exited {
                task: TaskId::new("three"),
            }
    });
    let ended = node.seen.iter().position(
        |event| matches!(event, AgentEvent::Status { task, status, .. } if task.as_str() == "three" && status.state.is_terminal()),
    );
    assert!(
        exited.is_some() && exited < ended,
        "the exit is told before the status: {:?}",
        node.seen
    );
}

fn what_cannot_start_fails_with_a_reason() {
    let mut node = Node::new();
    let mut user = spec("user", "true");
    user.user = Some("no-such-user".to_owned());
    let mut program = spec("program", "");
    program.command = model::Command::Argv(vec!["/no/such/program".to_owned()]);
    let mut network = spec("network", "true");
    network.network = TaskNetwork::Container {
        name: "dcos".to_owned(),
    };
    for (task, reason) in [
        (user, "no user `no-such-user`"),
        (program, "cannot execute `/no/such/program`"),
        (network, "subnet"),
    ] {
        let id = task.task.as_str().to_owned();
        node.launch(task);
        node.states_until_end(&id);
        let last = node.last(&id);
        assert_eq!(last.state, TaskState::Failed, "{id}");
        assert!(
            last.message.as_ref().is_some_and(|text| text.contains(reason)),
            "{id}: {:?}",
            last.message
        );
    }
    let mut traversal = spec("../escape", "true");
    traversal.name = "x".to_owned();
    node.launch(traversal);
    assert_eq!(node.states_until_end("../escape"), [TaskState::Failed]);
    let mut nobody = spec("nobody", "id -un; touch mine");
    nobody.user = Some("nobody".to_owned());
    node.open_to_all();
    node.launch(nobody);
    node.states_until_end("nobody");
    let stdout = fs::read_to_string(node.state().join("sandboxes/nobody/stdout")).expect("stdout");
    assert_eq!(
        (node.last("nobody").state, stdout.as_str()),
        (TaskState::Finished, "nobody\n")
    );
}

fn a_stubborn_task_is_killed_with_its_children() {
    let mut node = Node::new();
    let script = "trap '' TERM; setsid sh -c \"trap '' TERM; echo \\$\\$ > child; while :; do sleep 1000; done\" & echo up; while :; do sleep 1000; done";
    node.launch(spec("stubborn", script));
    node.until_state("stubborn", TaskState::Running);
    let sandbox = node.state().join("sandboxes/stubborn");
    eventually("the child runs", || {
        fs::read_to_string(sandbox.join("child")).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let child = fs::read_to_string(sandbox.join("child")).expect("a pid");
    node.kill(
        "stubborn",
        Some(KillPolicy {
            drain: Duration::from_millis(20),
            grace: Duration::from_millis(100),
        }),
    );
    let states = node.states_until_end("stubborn");
    assert_eq!(states, [TaskState::Killing, TaskState::Killed]);
    assert_eq!(node.last("stubborn").message.as_deref(), Some("killed by signal 9"));
    assert!(
        !Path::new("/proc").join(child.trim()).join("exe").exists(),
        "the escaped child lives"
    );
}

fn a_polite_task_ends_at_sigterm() {
    let mut node = Node::new();
    node.launch(spec(
        "polite",
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done",
    ));
    node.until_state("polite", TaskState::Running);
    let stdout = node.state().join("sandboxes/polite/stdout");
    eventually("the trap is set", || {
        fs::read_to_string(&stdout).is_ok_and(|text| text == "up\n")
    });
    node.kill(
        "polite",
        Some(KillPolicy {
            drain: Duration::ZERO,
            grace: Duration::from_secs(3600),
        }),
    );
    assert_eq!(node.states_until_end("polite"), [TaskState::Killing, TaskState::Killed]);
    assert_eq!(fs::read_to_string(&stdout).expect("stdout"), "up\nbye\n");
    node.kill("unknown", None);
}

fn running_means_listening() {
    node::set_loopback_up();
    let mut node = Node::new();
    let mut task = spec("web", &format!("exec {} listen 5555 go", me().display()));
    task.ready = ReadyRule::WhenListening {
        ports: vec![5555],
        within: Duration::from_secs(3600),
    };
    node.launch(task.clone());
    node.until_state("web", TaskState::Starting);
    node.launch(task);
    // The second launch only tells the status again, and the task waits for the file.
    node.until_state("web", TaskState::Starting);
    fs::write(node.state().join("sandboxes/web/go"), "").expect("writes");
    let running = node.until_state("web", TaskState::Running);
    assert_eq!(
        (running.healthy, running.addresses),
        (None, vec![Ipv4Addr::new(192, 0, 2, 1).into()])
    );
    TcpStream::connect((Ipv4Addr::LOCALHOST, 5555)).expect("RUNNING means that it listens");
    node.kill("web", None);
    node.states_until_end("web");
}

fn a_silent_task_is_unhealthy_until_it_listens() {
    let mut node = Node::new();
    let mut task = spec("late", &format!("exec {} listen 5556 go", me().display()));
    task.ready = ReadyRule::WhenListening {
        ports: vec![5556],
        within: Duration::from_millis(50),
    };
    node.launch(task);
    let late = node.until_state("late", TaskState::Running);
    assert_eq!(late.healthy, Some(false));
    assert!(late.message.is_some_and(|text| text.contains("TCP port 5556")));
    fs::write(node.state().join("sandboxes/late/go"), "").expect("writes");
    assert_eq!(node.until_state("late", TaskState::Running).healthy, Some(true));
    node.kill("late", None);
    node.states_until_end("late");
}

fn tasks_outlive_a_killed_daemon() {
    let mut node = Node::without_agent();
    let mut daemon = node.start_daemon();
    for (id, script) in [
        ("stays", "while [ ! -e go ]; do sleep 0.01; done; exit 7"),
        ("ends", "while [ ! -e go ]; do sleep 0.01; done; exit 0"),
    ] {
        writeln!(daemon.stdin.as_mut().expect("stdin"), "{id} {script}").expect("writes");
        let status = node.state().join("tasks").join(id).join("status.json");
        eventually("the task runs", || {
            fs::read_to_string(&status).is_ok_and(|text| text.contains("TASK_RUNNING"))
        });
    }
    daemon.kill().expect("kills");
    daemon.wait().expect("is dead");
    let tasks = node.state().join("tasks");
    fs::write(node.state().join("sandboxes/ends/go"), "").expect("writes");
    eventually("the runner notes the end", || tasks.join("ends/exit").exists());
    assert!(!tasks.join("stays/exit").exists());
    node.open();
    assert_eq!(node.until_state("stays", TaskState::Running).healthy, None);
    assert_eq!(node.until_end("ends").state, TaskState::Finished);
    fs::write(node.state().join("sandboxes/stays/go"), "").expect("writes");
    assert_eq!(node.until_end("stays").message.as_deref(), Some("exited with status 7"));
    // An end not yet acknowledged is told again after one more restart.
    node.close();
    node.open();
    assert_eq!(node.until_end("stays").state, TaskState::Failed);
    node.acknowledge("stays");
    node.acknowledge("ends");
    eventually("nothing is kept", || {
        fs::read_dir(&tasks).expect("reads").next().is_none()
    });
}

fn a_kill_goes_on_after_a_restart() {
    let mut node = Node::new();
    node.launch(spec("doomed", "trap '' TERM; while :; do sleep 1000; done"));
    node.until_state("doomed", TaskState::Running);
    node.kill(
        "doomed",
        Some(KillPolicy {
            drain: Duration::from_millis(500),
            grace: Duration::from_millis(100),
        }),
    );
    node.until_state("doomed", TaskState::Killing);
    node.close();
    node.open();
    let last = node.until_end("doomed");
    assert_eq!(
        (last.state, last.message.as_deref()),
        (TaskState::Killed, Some("killed by signal 9"))
    );
}

fn a_container_has_its_own_network() {
    let mut node = Node::new();
    node::set_loopback_up();
    node::add_own_address("9.0.3.1/32");
    node.set_subnet("9.0.3.0/24");
    let mut task = spec(
        "box",
        &format!("cat /etc/resolv.conf; exec {} listen 80", me().display()),
    );
    task.network = TaskNetwork::Container {
        name: "dcos".to_owned(),
    };
    task.ready = ReadyRule::WhenListening {
        ports: vec![80],
        within: Duration::from_secs(3600),
    };
    let mut second = spec("box-2", "cat /proc/net/route /proc/net/arp; exec sleep 1000");
    second.network = task.network.clone();
    node.launch(task);
    let running = node.until_state("box", TaskState::Running);
    let address = Ipv4Addr::new(9, 0, 3, 2);
    assert_eq!(running.addresses, [std::net::IpAddr::from(address)]);
    let mut client = TcpStream::connect_timeout(&(address, 80).into(), node::DEADLINE)
        .expect("the container is reached from its node");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client, &mut text).expect("reads");
    assert_eq!(text, GREETING);
    let stdout = fs::read_to_string(node.state().join("sandboxes/box/stdout")).expect("stdout");
    assert_eq!(stdout, "nameserver 198.51.100.1\n");
    node.launch(second);
    assert_eq!(
        node.until_state("box-2", TaskState::Running).addresses,
        [std::net::IpAddr::from([9, 0, 3, 3])]
    );
    let inside = node.state().join("sandboxes/box-2/stdout");
    eventually("the gateway has a neighbour entry", || {
        fs::read_to_string(&inside).is_ok_and(|text| text.contains("169.254.1.1") && text.contains("02:44:09:00:03:03"))
    });
    // From one container to the other, over both veths.
    let netns = node.state().join("netns/box-2");
    let reached = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["timeout", "10", "bash", "-c", "exec 3<>/dev/tcp/9.0.3.2/80; cat <&3"])
        .stderr(Stdio::inherit())
        .output()
        .expect("nsenter");
    assert_eq!(String::from_utf8_lossy(&reached.stdout), GREETING);
    for id in ["box", "box-2"] {
        node.kill(
            id,
            Some(KillPolicy {
                drain: Duration::ZERO,
                grace: Duration::ZERO,
            }),
        );
        node.states_until_end(id);
    }
    let again = {
        let mut task = spec("box-3", "true");
        task.network = TaskNetwork::Container {
            name: "dcos".to_owned(),
        };
        task
    };
    eventually("the addresses are free", || {
        node.state().join("netns").read_dir().expect("reads").next().is_none()
    });
    node.launch(again);
    node.states_until_end("box-3");
}

fn a_greedy_task_is_told_so() {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !Path::new("/sys/fs/cgroup/memory").exists() && !v2.contains("memory") {
        println!("a_greedy_task_is_told_so: skipped, no memory controller");
        return;
    }
    let mut node = Node::new();
    node.launch(spec("greedy", "head -c 300m /dev/zero | tail"));
    node.states_until_end("greedy");
    let last = node.last("greedy");
    assert_eq!(last.state, TaskState::Failed);
    assert!(
        last.message.as_ref().is_some_and(|text| text.contains("memory limit")),
        "{last:?}"
    );
}

fn damage_is_set_aside() {
    let mut node = Node::new();
    node.launch(spec("fine", "exec sleep 1000"));
    node.until_state("fine", TaskState::Running);
    node.launch(spec("hurt", "exec sleep 1000"));
    node.until_state("hurt", TaskState::Running);
    node.close();
    fs::write(node.state().join("tasks/hurt/spec.json"), "{\"version\":1,").expect("writes");
    fs::create_dir(node.state().join("tasks/empty")).expect("creates");
    node.open();
    assert_eq!(node.until_state("fine", TaskState::Running).state, TaskState::Running);
    assert_eq!(node.tasks(), ["fine"]);
    assert_eq!(fs::read_dir(node.state().join("damaged")).expect("reads").count(), 2);
    node.kill("fine", None);
    node.states_until_end("fine");
}
