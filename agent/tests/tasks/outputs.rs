//! What tasks write, bounded; what they fetch, checked; and disks that are nearly full.

use std::fs;
use std::time::Duration;

use model::{Extract, Fetch, FetchCache, FetchPermission, KillPolicy, TaskState};

use crate::node::{Node, eventually, spec};

fn file(node: &Node, task: &str, name: &str) -> String {
    fs::read_to_string(node.state().join("sandboxes").join(task).join(name)).unwrap_or_default()
}

pub(crate) fn what_a_task_writes_is_bounded_and_its_end_is_there() {
    let mut node = Node::new();
    node.open_to_all();
    let mut task = spec(
        "talker",
        "for n in $(seq 1000 2999); do echo line $n; done; echo again >/dev/stdout; echo err >&2",
    );
    task.user = Some("nobody".to_owned());
    task.env
        .insert("CONTAINER_LOGGER_MAX_STDOUT_SIZE".to_owned(), "4KB".to_owned());
    task.labels.insert(
        "CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS".to_owned(),
        "rotate 2".to_owned(),
    );
    node.launch(task);
    let last = node.until_end("talker");
    assert_eq!(
        last.state,
        TaskState::Finished,
        "{last:?}: {}",
        file(&node, "talker", "stderr")
    );
    let parts = ["stdout.2", "stdout.1", "stdout"].map(|name| file(&node, "talker", name));
    assert!(
        parts.iter().all(|part| part.len() <= 4096 && part.ends_with('\n')),
        "{:?}",
        parts.each_ref().map(String::len)
    );
    let whole: String = (1000..3000)
        .map(|n| format!("line {n}\n"))
        .chain(["again\n".to_owned()])
        .collect();
    assert!(
        whole.ends_with(&parts.concat()),
        "the newest lines, whole and in order: {parts:?}"
    );
    assert!(parts[0].len() > 4000 && !node.state().join("sandboxes/talker/stdout.3").exists());
    assert_eq!(file(&node, "talker", "stderr"), "err\n");
    let mut wrong = spec("wrong", "true");
    wrong
        .env
        .insert("CONTAINER_LOGGER_MAX_STDERR_SIZE".to_owned(), "much".to_owned());
    node.launch(wrong);
    let told = node.until_end("wrong").message.unwrap_or_default();
    assert!(told.contains("CONTAINER_LOGGER_MAX_STDERR_SIZE is `much`"), "{told}");
}

pub(crate) fn a_flood_fills_no_disk() {
    let mut node = Node::without_agent();
    node.open_with(|config| {
        config.logs.limit = 1 << 20;
        config.logs.older = 1;
    });
    node.launch(spec("flood", "yes & exec yes >&2"));
    node.until_state("flood", TaskState::Running);
    let sandbox = node.state().join("sandboxes/flood");
    let rotated = || ["stdout.1", "stderr.1"].iter().all(|name| sandbox.join(name).exists());
    eventually("both are written faster than one file holds", rotated);
    let policy = KillPolicy {
        drain: Duration::ZERO,
        grace: Duration::ZERO,
    };
    node.kill("flood", Some(policy));
    node.until_end("flood");
    let sizes: Vec<u64> = fs::read_dir(&sandbox)
        .expect("there")
        .map(|entry| entry.expect("one").metadata().expect("one").len())
        .collect();
    assert!(
        sizes.len() == 4 && sizes.iter().all(|size| *size <= 1 << 20),
        "{sizes:?}"
    );
}

pub(crate) fn what_does_not_have_its_checksum_is_refused() {
    let mut node = Node::new();
    let given = node.state().join("given");
    fs::write(&given, "hello\n").expect("written");
    // Of `hello` and a line's end.
    let right = "5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03";
    let with = |id: &str, sum: &str| {
        let mut task = spec(id, "cat given");
        task.fetch = vec![Fetch {
            uri: format!("file://{}#sha256={sum}", given.display()),
            extract: Extract::Archives,
            permission: FetchPermission::Data,
            cache: FetchCache::None,
            dest: None,
        }];
        task
    };
    node.launch(with("right", right));
    assert_eq!(node.until_end("right").state, TaskState::Finished);
    assert_eq!(file(&node, "right", "stdout"), "hello\n");
    node.launch(with("changed", &right.replace('5', "6")));
    let last = node.until_end("changed");
    let told = last.message.unwrap_or_default();
    assert!(
        last.state == TaskState::Failed && told.contains("its SHA-256 is 5891b5b5"),
        "{told}"
    );
    assert!(
        !node.state().join("sandboxes/changed/given").exists(),
        "nothing of it is left for anybody to run"
    );
}

pub(crate) fn tasks_start_while_something_is_removed() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut node = Node::without_agent();
    node.open_with(|config| config.sweep = Duration::from_millis(50));
    // What the sweep reads, and waits for as long as somebody could write more.
    let pipe = node.state().join("tasks/other/run.json");
    fs::create_dir(node.state().join("tasks/other")).expect("makes");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("runs").success());
    let mut writer = None;
    eventually("the sweep reads it", || {
        let opened = fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipe);
        writer = opened.ok();
        writer.is_some()
    });
    node.launch(spec("starts", "exit 0"));
    assert_eq!(node.until_end("starts").state, TaskState::Finished);
    // Gone before the sweep could look at it once more.
    fs::remove_file(&pipe).expect("removes");
    drop(writer);
}

pub(crate) fn a_full_disk_loses_the_oldest_sandboxes_first() {
    let mut node = Node::without_agent();
    let mount = |args: &[&str]| {
        let done = std::process::Command::new(args[0])
            .args(&args[1..])
            .arg(node.state())
            .status();
        assert!(done.expect("runs").success(), "{args:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64m", "none"]);
    node.open_with(|config| {
        config.disk_percent = 50;
        config.sweep = Duration::from_millis(100);
    });
    let sandbox = |node: &Node, id: &str| node.state().join("sandboxes").join(id);
    node.launch(spec("runs", "exec sleep 1000"));
    node.until_state("runs", TaskState::Running);
    for id in ["first", "second"] {
        node.launch(spec(id, "head -c 20000000 /dev/zero > large"));
        assert_eq!(node.until_end(id).state, TaskState::Finished);
    }
    // As if both had ended a while ago, the first one before the second.
    let ended_before = |id: &str, seconds: u64| {
        let dir = fs::File::open(sandbox(&node, id)).expect("a young one stays, however full the disk is");
        let time = std::time::SystemTime::now() - Duration::from_secs(seconds);
        dir.set_modified(time).expect("dated");
    };
    ended_before("first", 1400);
    ended_before("second", 700);
    eventually("the oldest goes long before its time", || {
        !sandbox(&node, "first").exists()
    });
    assert!(sandbox(&node, "second").exists(), "no more goes than has to");
    assert!(sandbox(&node, "runs").exists(), "a task that runs keeps its own");
    let policy = KillPolicy {
        drain: Duration::ZERO,
        grace: Duration::ZERO,
    };
    node.kill("runs", Some(policy));
    node.until_end("runs");
    node.close();
    let done = std::process::Command::new("umount")
        .arg("-l")
        .arg(node.state())
        .status();
    assert!(done.expect("runs").success());
}
