//! Programs inside running tasks, for people: where they run, what they say, and that nothing of them stays.

use std::fs;
use std::time::Duration;

use agent::{Session, SessionInput, SessionOutput, SessionSpec, WindowSize};
use model::{KillPolicy, TaskState};

use crate::containers;
use crate::node::{Node, eventually, spec};

fn shell(script: &str) -> SessionSpec {
    SessionSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        terminal: None,
    }
}

fn give(node: &Node, session: &Session, input: SessionInput) {
    node.wait(session.give(input)).expect("taken");
}

/// Everything that it says, and how it ended.
fn rest(node: &Node, session: &Session) -> (String, String, Option<i32>) {
    let (mut out, mut error, mut status) = (Vec::new(), Vec::new(), None);
    while let Some(next) = node.wait(session.next()).expect("the holder speaks") {
        match next {
            SessionOutput::Out(bytes) => out.extend(bytes),
            SessionOutput::Error(bytes) => error.extend(bytes),
            SessionOutput::Over(ended) => status = Some(ended),
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(out), text(error), status)
}

/// Ends the task that all of this is in.
fn end(node: &mut Node) {
    let policy = KillPolicy {
        drain: Duration::ZERO,
        grace: Duration::ZERO,
    };
    node.kill("sat", Some(policy));
    node.until_end("sat");
}

fn run(node: &Node, task: &str, name: &str, spec: &SessionSpec) -> String {
    let session = node.session(task, name, spec).expect("it starts");
    // What is over before it was told takes nothing any more.
    let _ = node.wait(session.give(SessionInput::End));
    let (out, error, status) = rest(node, &session);
    assert_eq!(status, Some(0), "{out}{error}");
    out
}

pub(crate) fn a_session_is_in_its_task_with_its_user() {
    let mut node = Node::new();
    node.open_to_all();
    let mut task = spec("sat", "exec sleep 1000");
    task.user = Some("nobody".to_owned());
    task.env.insert("A".to_owned(), "of the task".to_owned());
    node.launch(task);
    node.until_state("sat", TaskState::Running);
    let mut look = shell("id -un; echo $A $B; pwd; cat /proc/self/cgroup; cat; echo to err >&2; exit 3");
    look.env = vec![("B".to_owned(), "and more".to_owned())];
    let session = node.session("sat", "s-1", &look).expect("it starts");
    give(&node, &session, SessionInput::Data(b"from outside\n".to_vec()));
    give(&node, &session, SessionInput::End);
    let (out, error, status) = rest(&node, &session);
    let sandbox = node.state().join("sandboxes/sat");
    let wanted = format!("nobody\nof the task and more\n{}\n", sandbox.display());
    assert!(out.starts_with(&wanted) && out.ends_with("from outside\n"), "{out}");
    assert!(
        out.contains("/sat.task/s-1.session\n"),
        "in a cgroup below the task's: {out}"
    );
    assert_eq!((error.as_str(), status), ("to err\n", Some(3 << 8)));
    assert!(
        !node.group("sat").join("s-1.session").exists(),
        "its cgroup went with it"
    );
    let said = node
        .session("sat", "s-2", &shell("kill -9 $$"))
        .map(|session| rest(&node, &session).2);
    assert_eq!(said.expect("it starts"), Some(9), "ended by a signal");
    // Much of both, at once: neither waits for the other.
    let session = node.session("sat", "s-3", &shell("exec wc -c")).expect("it starts");
    for _ in 0..32 {
        give(&node, &session, SessionInput::Data(vec![b'x'; agent::MOST_INPUT]));
    }
    give(&node, &session, SessionInput::End);
    let wanted = format!("{}\n", 32 * agent::MOST_INPUT);
    assert_eq!(rest(&node, &session).0, wanted);
    let many = run(&node, "sat", "s-4", &shell("head -c 3000000 /dev/zero"));
    assert_eq!(many.len(), 3_000_000);
    end(&mut node);
}

pub(crate) fn a_session_has_a_terminal() {
    let mut node = Node::new();
    node.launch(spec("sat", "exec sleep 1000"));
    node.until_state("sat", TaskState::Running);
    let mut look = shell("tty; echo $TERM; stty size; read word; echo got $word; stty size; echo err >&2; exec cat");
    look.terminal = Some(WindowSize { rows: 33, columns: 99 });
    let session = node.session("sat", "s-1", &look).expect("it starts");
    let mut said = String::new();
    let mut until = |wanted: &str| {
        while !said.contains(wanted) {
            match node.wait(session.next()).expect("the holder speaks") {
                Some(SessionOutput::Out(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} before {wanted}: {said}"),
            }
        }
    };
    until("33 99\r\n");
    let larger = WindowSize { rows: 40, columns: 120 };
    give(&node, &session, SessionInput::Size(larger));
    give(&node, &session, SessionInput::Data(b"hello\n".to_vec()));
    until("40 120\r\n");
    until("err\r\n");
    assert!(
        said.starts_with("/dev/pts/") && said.contains("\r\nxterm\r\n") && said.contains("got hello\r\n"),
        "{said}"
    );
    give(&node, &session, SessionInput::End);
    assert_eq!(rest(&node, &session).2, Some(0), "the end of the input ends cat");
    // Ctrl-C is the terminal's to tell.
    let mut stubborn = shell("trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done");
    stubborn.terminal = look.terminal;
    let session = node.session("sat", "s-2", &stubborn).expect("it starts");
    let first = node.wait(session.next()).expect("the holder speaks");
    assert!(
        matches!(&first, Some(SessionOutput::Out(said)) if said.starts_with(b"ready")),
        "{first:?}"
    );
    give(&node, &session, SessionInput::Data(vec![3]));
    let (out, _, status) = rest(&node, &session);
    assert!(out.contains("caught") && status == Some(5 << 8), "{out} {status:?}");
    end(&mut node);
}

pub(crate) fn nothing_of_a_session_outlives_who_asked() {
    let mut node = Node::new();
    node.launch(spec("sat", "exec sleep 1000"));
    node.until_state("sat", TaskState::Running);
    let script = "setsid sleep 1000 & nohup sleep 1000 & echo there; exec sleep 1000";
    for terminal in [None, Some(WindowSize { rows: 24, columns: 80 })] {
        let spec = SessionSpec {
            terminal,
            ..shell(script)
        };
        let session = node.session("sat", "left", &spec).expect("it starts");
        node.wait(session.next()).expect("it is there");
        let group = node.group("sat").join("left.session");
        let here = || fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        eventually("its three processes are there", || here().lines().count() == 3);
        drop(session);
        eventually("nothing of it is left", || !group.exists());
    }
    // One that ends takes along what it left running.
    run(
        &node,
        "sat",
        "done",
        &shell("setsid sleep 1000 >/dev/null 2>&1 & exit 0"),
    );
    assert!(!node.group("sat").join("done.session").exists());
    // How one ended is told even if its cgroup cannot be removed, as one that is mounted somewhere.
    let session = node
        .session("sat", "stays", &shell("echo there; read word; exit 3"))
        .expect("it starts");
    node.wait(session.next()).expect("it is there");
    let group = node.group("sat").join("stays.session");
    let mounted = |args: &[&str]| {
        std::process::Command::new(args[0])
            .args(&args[1..])
            .arg(&group)
            .status()
    };
    let bind = ["mount", "--bind", &group.to_string_lossy()];
    assert!(mounted(&bind).expect("runs").success());
    give(&node, &session, SessionInput::End);
    assert_eq!(rest(&node, &session).2, Some(3 << 8));
    assert!(mounted(&["umount"]).expect("runs").success());
    fs::remove_dir(&group).expect("it is empty");
    // And the task's end is every session's.
    let session = node
        .session("sat", "last", &shell("echo there; exec sleep 1000"))
        .expect("it starts");
    node.wait(session.next()).expect("it is there");
    end(&mut node);
    assert_eq!(rest(&node, &session).2, Some(9));
    eventually("the task's cgroup is gone", || !node.group("sat").exists());
}

pub(crate) fn sessions_that_cannot_be_are_refused_with_a_sentence() {
    let mut node = Node::new();
    node.launch(spec("sat", "exec sleep 1000"));
    node.until_state("sat", TaskState::Running);
    let refused = |task: &str, name: &str, spec: &SessionSpec| {
        let session = node.session(task, name, spec);
        session.expect_err("refused").to_string()
    };
    let plain = shell("true");
    assert_eq!(refused("none", "s", &plain), "no task none runs on this node");
    for name in ["", "../x", "a/b", ".x", &"x".repeat(65)] {
        assert!(refused("sat", name, &plain).contains("a session's name"), "{name}");
    }
    let with = |argv: Vec<String>| SessionSpec { argv, ..plain.clone() };
    assert!(refused("sat", "s", &with(Vec::new())).contains("empty"));
    assert!(
        refused("sat", "s", &with(vec!["/none/such".to_owned()]))
            .contains("cannot execute `/none/such` inside the task")
    );
    let long = with(vec!["x".repeat(70_000)]);
    assert!(refused("sat", "s", &long).contains("65536 bytes"));
    assert!(
        !node.group("sat").join("s.session").exists(),
        "nothing stays of one that failed"
    );
    let open: Vec<Session> = (0..64)
        .map(|number| {
            node.session("sat", &format!("n-{number}"), &shell("exec sleep 1000"))
                .expect("it starts")
        })
        .collect();
    assert!(refused("sat", "more", &plain).contains("64 programs"));
    drop(open);
    eventually("there is room again", || node.session("sat", "again", &plain).is_ok());
    end(&mut node);
}

pub(crate) fn a_session_that_does_not_begin_is_given_up() {
    let mut node = Node::without_agent();
    let holder = node.state().join("holder");
    node.open_with(|config| {
        // It starts tasks as always, and hangs when it is to hold a session.
        let runner: Vec<String> = config
            .runner
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let script = format!(
            "[ \"$2\" != session ] || {{ echo $$ >{}; exec sleep 1000; }}; exec {} \"$@\"",
            holder.display(),
            runner.join(" ")
        );
        config.runner = ["/bin/sh", "-c", &script, "sh"].map(Into::into).to_vec();
        config.session_wait = Duration::from_secs(1);
    });
    node.launch(spec("sat", "exec sleep 1000"));
    node.until_state("sat", TaskState::Running);
    let refused = node.session("sat", "s", &shell("true")).expect_err("nothing begins");
    assert!(refused.to_string().contains("did not start within 1 s"), "{refused}");
    let pid = fs::read_to_string(&holder).expect("it was started");
    let command = || fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    eventually("its holder is gone", || !command().contains("sleep"));
    end(&mut node);
}

pub(crate) fn nothing_is_left_of_a_session_whose_asker_goes_while_it_begins() {
    let mut node = Node::new();
    node.launch(spec("sat", "exec sleep 1000"));
    node.until_state("sat", TaskState::Running);
    let groups: Vec<_> = (0..20)
        .map(|number| {
            let name = format!("n-{number}");
            let group = node.group("sat").join(format!("{name}.session"));
            node.leave_session("sat", &name, &shell("exec sleep 1000"), || group.exists());
            group
        })
        .collect();
    for group in groups {
        eventually("its cgroup is gone", || !group.exists());
    }
    end(&mut node);
}

pub(crate) fn a_session_in_a_container_has_its_rights_only() {
    let (mut node, image) = containers::node_with_image();
    let mut task = containers::shell("sat", &image, "exec sleep 1000");
    task.user = Some("app".to_owned());
    node.launch(task);
    node.until_state("sat", TaskState::Running);
    let script = "cat /etc/added; echo; id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; \
        echo processes $(ls /proc | grep -c '^[0-9]'); pwd; mount -t tmpfs x /tmp && echo mounted; true";
    let said = run(&node, "sat", "s-1", &shell(script)).replace('\t', " ");
    for line in [
        "1000",
        "CapEff: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "/srv/mesos/sandbox",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(said.contains("upper") && !said.contains("mounted"), "{said}");
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("processes ")?.parse::<u32>().ok());
    assert!(
        count.is_some_and(|count| count < 12),
        "only the container's processes are seen: {said}"
    );
    let mut at_terminal = shell("busybox tty; busybox stty size; ls -ln $(busybox tty)");
    at_terminal.terminal = Some(WindowSize { rows: 12, columns: 34 });
    let session = node.session("sat", "s-2", &at_terminal).expect("it starts");
    let (out, _, status) = rest(&node, &session);
    assert!(
        out.starts_with("/dev/pts/0\r\n12 34\r\n"),
        "the container's own first terminal: {out} {status:?}"
    );
    assert!(out.contains(" 1000 "), "its user's: {out}");
    let session = node
        .session("sat", "s-3", &shell("sleep 1000 & echo there; exec sleep 1000"))
        .expect("it starts");
    node.wait(session.next()).expect("it is there");
    let group = node.group("sat").join("s-3.session");
    drop(session);
    eventually("nothing of it is left", || !group.exists());
    end(&mut node);
}
