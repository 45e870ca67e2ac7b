//! Persistent volumes: what a task wrote, the next task of its instance finds. And secrets, which it finds alone.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use agent::AgentEvent;
use model::{LaunchSpec, PersistentVolume, SecretValue, Secrets, TaskState, Volume, VolumeMode};

use crate::containers::{node_with_image, output, shell};
use crate::node::{Node, eventually, spec};

fn with_volume(mut task: LaunchSpec) -> LaunchSpec {
    task.container.persistent = vec![PersistentVolume {
        container_path: "data".to_owned(),
        size_mb: 10,
    }];
    task
}

pub(crate) fn volumes_outlive_tasks_and_daemons() {
    let (mut node, image) = node_with_image();
    let first = with_volume(spec("db.instance-1._app.1", "echo kept > data/file"));
    assert_eq!(output(&mut node, first), "");
    let kept = node.state().join("volumes/db.instance-1/data/file");
    assert_eq!(fs::read_to_string(&kept).expect("kept"), "kept\n");
    node.close();
    node.open();
    // In an image it lies in the sandbox too, and where else the task wants it.
    let script = "cat /mnt/mesos/sandbox/data/file /var/lib/db/file; echo more > /var/lib/db/file";
    let mut second = with_volume(shell("db.instance-1._app.2", &image, script));
    second.container.volumes = vec![Volume {
        container_path: "/var/lib/db".to_owned(),
        host_path: "data".to_owned(),
        mode: VolumeMode::ReadWrite,
    }];
    assert_eq!(output(&mut node, second), "kept\nkept\n");
    assert_eq!(fs::read_to_string(&kept).expect("kept"), "more\n");
    let other = with_volume(spec("db.instance-2._app.1", "ls data"));
    assert_eq!(output(&mut node, other), "", "another instance has another volume");
}

pub(crate) fn a_volume_is_its_users_to_write() {
    let mut node = Node::new();
    node.open_to_all();
    let mut task = with_volume(spec("u.instance-1._app.1", "touch data/mine && echo done"));
    task.user = Some("nobody".to_owned());
    assert_eq!(output(&mut node, task), "done\n");
    let owner = fs::metadata(node.state().join("volumes/u.instance-1/data")).expect("there");
    assert_ne!(owner.uid(), 0);
}

pub(crate) fn volumes_are_never_shared_and_go_only_when_nobody_uses_them() {
    let mut node = Node::new();
    let wait = "echo here > data/first; while [ ! -e data/go ]; do sleep 0.02; done";
    node.launch(with_volume(spec("w.instance-1._app.1", wait)));
    node.until_state("w.instance-1._app.1", TaskState::Running);
    node.launch(with_volume(spec("w.instance-1._app.2", "ls data; rm data/first")));
    // A third task, of nothing, has its turn meanwhile: the second one waits for the first.
    node.launch(spec("quick", "true"));
    node.until_end("quick");
    assert_eq!(node.last("w.instance-1._app.1").state, TaskState::Running);
    assert!(!node.state().join("sandboxes/w.instance-1._app.2/stdout").exists());
    let volume = node.state().join("volumes/w.instance-1/data");
    fs::write(volume.join("go"), "").expect("written");
    assert_eq!(node.until_end("w.instance-1._app.2").state, TaskState::Finished);
    assert!(!volume.join("first").exists());
    node.launch(with_volume(spec(
        "w.instance-1._app.3",
        "while [ ! -e data/stop ]; do sleep 0.02; done",
    )));
    node.until_state("w.instance-1._app.3", TaskState::Running);
    node.remove_volumes("w.instance-1");
    node.launch(spec("quick-2", "true"));
    node.until_end("quick-2");
    assert!(volume.exists(), "a task still uses it");
    fs::write(volume.join("stop"), "").expect("written");
    let gone = AgentEvent::VolumesGone {
        owner: "w.instance-1".to_owned(),
    };
    node.until_seen(&gone);
    assert!(!node.state().join("volumes/w.instance-1").exists());
    node.seen.clear();
    node.remove_volumes("w.instance-1");
    node.until_seen(&gone);
}

fn with_secrets(mut task: LaunchSpec) -> LaunchSpec {
    task.container.secrets = Secrets {
        sources: [("pw".to_owned(), "team/db".to_owned())].into(),
        env: [("PASSWORD".to_owned(), "pw".to_owned())].into(),
        files: vec![("etc/pw".to_owned(), "pw".to_owned())],
    };
    task
}

fn give(node: &Node, task: &LaunchSpec) {
    let value = SecretValue::new(b"s3cret".to_vec());
    node.take_secrets(&task.task, [("team/db".to_owned(), value)].into());
}

pub(crate) fn secrets_are_variables_and_files_of_their_task_alone() {
    let mut node = Node::new();
    node.open_to_all();
    let mut task = with_secrets(spec(
        "s-1",
        "echo $PASSWORD; cat etc/pw; echo; stat -c %a etc/pw; echo x > etc/pw || echo refused",
    ));
    task.user = Some("nobody".to_owned());
    give(&node, &task);
    assert_eq!(output(&mut node, task), "s3cret\ns3cret\n400\nrefused\n");
    let seen = fs::read(node.state().join("sandboxes/s-1/etc/pw")).expect("a place to mount on");
    assert!(seen.is_empty(), "the sandbox itself holds nothing");
    let mode = fs::metadata(node.state().join("tasks"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads what tasks are started from");
    node.acknowledge("s-1");
    let left = node.state().join("tasks/s-1");
    eventually("the secrets go with the task", || !left.exists());
    // Told for another task, and not for this one.
    give(&node, &spec("other", "true"));
    node.launch(with_secrets(spec("s-2", "true")));
    let last = node.until_end("s-2");
    assert_eq!(last.state, TaskState::Failed);
    assert!(last.message.is_some_and(|text| text.contains("no secret team/db")));
}

pub(crate) fn a_container_has_its_secrets_too() {
    let (mut node, image) = node_with_image();
    let script = "echo $PASSWORD; cat /mnt/mesos/sandbox/etc/pw /run/secret";
    let mut task = with_secrets(shell("s-3", &image, script));
    let elsewhere = ("/run/secret".to_owned(), "pw".to_owned());
    task.container.secrets.files.push(elsewhere);
    give(&node, &task);
    assert_eq!(output(&mut node, task), "s3cret\ns3crets3cret");
}
