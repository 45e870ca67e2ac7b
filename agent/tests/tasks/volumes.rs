//! Persistent volumes: what a task wrote, the next task of its instance finds.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use agent::AgentEvent;
use model::{LaunchSpec, PersistentVolume, TaskState, Volume, VolumeMode};

use crate::containers::{node_with_image, output, shell};
use crate::node::{Node, spec};

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
