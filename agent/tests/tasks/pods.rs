//! Pods: several tasks that start together or not at all, share a network and directories, and end together.

use std::fs;
use std::path::Path;

use agent::AgentEvent;
use model::{
    Image, KillPolicy, LaunchSpec, PodMount, PodPart, Reason, TaskId, TaskNetwork, TaskState, TaskStatus, VolumeMode,
};

use crate::containers::Built;
use crate::node::{Node, add_own_address, eventually, set_loopback_up, spec};

/// Orders of one instance: a shell command for each container.
fn pod(instance: &str, containers: &[(&str, &str)]) -> Vec<LaunchSpec> {
    let task = |name: &str| format!("{instance}.{name}.1");
    let members: Vec<TaskId> = containers.iter().map(|(name, _)| TaskId::new(task(name))).collect();
    let order = |(name, script): &(&str, &str)| LaunchSpec {
        pod: Some(Box::new(PodPart {
            instance: instance.to_owned(),
            members: members.clone(),
            mounts: vec![PodMount {
                volume: "shared".to_owned(),
                container_path: "common".to_owned(),
                mode: VolumeMode::ReadWrite,
            }],
        })),
        ..spec(&task(name), script)
    };
    containers.iter().map(order).collect()
}

/// The status that tells it as running; it may have come while another task was waited for.
fn running(node: &mut Node, task: &str) -> TaskStatus {
    let of = |event: &AgentEvent| match event {
        AgentEvent::Status { task: id, status, .. } if id.as_str() == task => Some(status.clone()),
        _ => None,
    };
    let last = node.seen.iter().rev().find_map(of);
    match last.filter(|status| status.state == TaskState::Running) {
        Some(status) => status,
        None => node.until_state(task, TaskState::Running),
    }
}

fn file(node: &Node, task: &str, name: &str) -> String {
    fs::read_to_string(node.state().join("sandboxes").join(task).join(name)).unwrap_or_default()
}

fn process(node: &Node, task: &str) -> u32 {
    let text = fs::read_to_string(node.state().join("tasks").join(task).join("pid")).expect("runs");
    let pid: serde_json::Value = serde_json::from_str(&text).expect("json");
    u32::try_from(pid["pid"].as_u64().expect("a number")).expect("a pid")
}

fn namespace(node: &Node, task: &str) -> String {
    let link = fs::read_link(format!("/proc/{}/ns/net", process(node, task))).expect("lives");
    link.to_string_lossy().into_owned()
}

pub(crate) fn a_pod_shares_a_network_and_directories() {
    set_loopback_up();
    add_own_address("9.0.8.1/32");
    let mut node = Node::new();
    node.set_subnet("9.0.8.0/24");
    let script = "echo from a > common/a; while [ ! -e common/b ]; do sleep 0.01; done; cat common/b; exec sleep 1000";
    let other = "while [ ! -e common/a ]; do sleep 0.01; done; cat common/a; echo from b > common/b; exec sleep 1000";
    let mut orders = pod("p.instance-1", &[("a", script), ("b", other)]);
    for order in &mut orders {
        order.network = TaskNetwork::Container {
            name: "dcos".to_owned(),
        };
    }
    let (a, b) = ("p.instance-1.a.1", "p.instance-1.b.1");
    node.launch_pod(orders.clone());
    let first = running(&mut node, a);
    let second = running(&mut node, b);
    assert_eq!(first.addresses, second.addresses, "one address for both");
    assert_eq!(first.addresses.len(), 1);
    assert_eq!(namespace(&node, a), namespace(&node, b));
    eventually("each reads what the other wrote", || {
        (file(&node, a, "stdout").as_str(), file(&node, b, "stdout").as_str()) == ("from b\n", "from a\n")
    });
    // Another pod gets another address, while this one's is held.
    let mut alone = pod("q.instance-1", &[("c", "exec sleep 1000")]);
    alone[0].network = orders[0].network.clone();
    node.launch_pod(alone);
    let third = running(&mut node, "q.instance-1.c.1");
    assert_ne!(third.addresses, first.addresses);
    node.kill("q.instance-1.c.1", None);
    node.until_end("q.instance-1.c.1");
    // One that has done its work leaves network and directory to the other.
    node.kill(a, None);
    assert_eq!(node.until_end(a).state, TaskState::Killed);
    assert_eq!(node.until_end(b).state, TaskState::Killed, "it goes with the other");
    eventually("what they shared goes with the last", || {
        fs::read_dir(node.state().join("pods"))
            .expect("is there")
            .next()
            .is_none()
    });
}

pub(crate) fn a_container_that_fails_ends_its_pod_and_one_that_is_done_does_not() {
    let mut node = Node::new();
    let scripts = [
        ("done", "exit 0"),
        ("fails", "while [ ! -e common/go ]; do sleep 0.01; done; exit 3"),
        ("stays", "exec sleep 1000"),
    ];
    node.launch_pod(pod("f.instance-1", &scripts));
    let (done, fails, stays) = ("f.instance-1.done.1", "f.instance-1.fails.1", "f.instance-1.stays.1");
    assert_eq!(node.until_end(done).state, TaskState::Finished);
    node.acknowledge(done);
    running(&mut node, stays);
    assert_eq!(
        node.tasks().len(),
        3,
        "an ended one is known for as long as the others run"
    );
    fs::write(node.state().join("pods/f.instance-1/volumes/shared/go"), "").expect("writes");
    let end = node.until_end(fails);
    assert_eq!(
        (end.state, end.message.as_deref()),
        (TaskState::Failed, Some("exited with status 3"))
    );
    assert_eq!(node.until_end(stays).state, TaskState::Killed);
    for task in [fails, stays] {
        node.acknowledge(task);
    }
    eventually("all are forgotten together", || node.tasks().is_empty());
    eventually("their files go too", || {
        fs::read_dir(node.state().join("tasks"))
            .expect("is there")
            .next()
            .is_none()
    });
}

pub(crate) fn a_pod_of_which_one_cannot_start_does_not_start() {
    let mut node = Node::new();
    let mut orders = pod("n.instance-1", &[("good", "echo started"), ("bad", "true")]);
    orders[1].container.image = Some(Image {
        name: "/nowhere/image".to_owned(),
        ..Image::default()
    });
    node.launch_pod(orders);
    assert_eq!(node.until_end("n.instance-1.bad.1").state, TaskState::Failed);
    let end = node.until_end("n.instance-1.good.1");
    assert_eq!(
        (end.state, end.reason),
        (TaskState::Killed, Some(Reason::TaskKilledDuringLaunch))
    );
    assert!(
        !node.state().join("tasks/n.instance-1.good.1/run.json").exists(),
        "it was never started"
    );

    let mut orders = pod("m.instance-1", &[("a", "true"), ("b", "true")]);
    orders.pop();
    node.launch_pod(orders);
    let end = node.until_end("m.instance-1.a.1");
    assert!(
        end.message.as_deref().is_some_and(|text| text.contains("not complete")),
        "{end:?}"
    );
}

pub(crate) fn a_pod_outlives_the_agent_and_is_torn_by_none() {
    let mut node = Node::new();
    let long = [("a", "exec sleep 1000"), ("b", "exec sleep 1000")];
    let (a, b) = ("r.instance-1.a.1", "r.instance-1.b.1");
    node.launch_pod(pod("r.instance-1", &long));
    for task in [a, b] {
        running(&mut node, task);
    }
    let before = (process(&node, a), process(&node, b));
    node.close();
    node.open();
    // A repeated order starts nothing.
    node.launch_pod(pod("r.instance-1", &long));
    for task in [a, b] {
        running(&mut node, task);
    }
    assert_eq!((process(&node, a), process(&node, b)), before);
    // One ends while nobody looks.
    node.close();
    let dead = kill_process(before.0);
    assert!(dead, "the process was there");
    eventually("its runner wrote how it ended", || {
        node.state().join("tasks").join(a).join("exit").exists()
    });
    node.open();
    assert_eq!(node.until_end(a).state, TaskState::Failed);
    assert_eq!(node.until_end(b).state, TaskState::Killed);
}

fn kill_process(pid: u32) -> bool {
    let done = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    done.expect("kill").success()
}

pub(crate) fn a_pod_of_which_a_part_is_missing_ends() {
    let mut node = Node::new();
    let long = [("a", "exec sleep 1000"), ("b", "exec sleep 1000")];
    let (a, b) = ("t.instance-1.a.1", "t.instance-1.b.1");
    node.launch_pod(pod("t.instance-1", &long));
    for task in [a, b] {
        running(&mut node, task);
    }
    node.close();
    fs::write(node.state().join("tasks").join(a).join("spec.json"), "{").expect("writes");
    node.open();
    assert_eq!(node.until_end(b).state, TaskState::Killed, "half a pod is none");
}

pub(crate) fn containers_of_a_pod_share_what_processes_write() {
    let mut node = Node::new();
    let dir = node.state().join("image");
    fs::create_dir(&dir).expect("makes");
    let image = Built::busybox(Path::new(&dir)).name();
    let scripts = [
        ("inside", "echo $(hostname) > /data/name; exec sleep 1000"),
        (
            "outside",
            "while [ ! -s common/name ]; do sleep 0.01; done; echo x 2>/dev/null > common/y; exec sleep 1000",
        ),
    ];
    let mut orders = pod("i.instance-1", &scripts);
    orders[0].container.image = Some(Image {
        name: image,
        ..Image::default()
    });
    let mount = |order: &mut LaunchSpec, path: &str, mode| {
        let part = order.pod.as_mut().expect("a pod");
        part.mounts[0].container_path = path.to_owned();
        part.mounts[0].mode = mode;
    };
    mount(&mut orders[0], "/data", VolumeMode::ReadWrite);
    mount(&mut orders[1], "common", VolumeMode::ReadOnly);
    orders[0].kill = KillPolicy {
        grace: std::time::Duration::from_secs(1),
        ..orders[0].kill
    };
    node.launch_pod(orders);
    let shared = node.state().join("pods/i.instance-1/volumes/shared");
    eventually("the container wrote", || shared.join("name").exists());
    running(&mut node, "i.instance-1.outside.1");
    assert!(!shared.join("y").exists(), "read-only for the other");
    node.kill("i.instance-1.outside.1", None);
    for task in ["i.instance-1.outside.1", "i.instance-1.inside.1"] {
        assert_eq!(node.until_end(task).state, TaskState::Killed);
    }
}
