//! Calls of frameworks as they are written, and what is made of them.

use serde_json::json;

use super::*;

fn made(call: Value) -> FrameworkCall {
    match scheduler_call(&call) {
        Ok(SchedulerCall::Call(framework, made)) => {
            assert_eq!(framework, FrameworkId::new("f"));
            made
        }
        other => panic!("{other:?}"),
    }
}

fn ordered(task: Value) -> TaskOrder {
    let call = json!({"framework_id": {"value": "f"}, "type": "ACCEPT", "accept": {
        "offer_ids": [{"value": "o"}],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}],
    }});
    let FrameworkCall::Accept {
        offers,
        mut operations,
        refuse,
    } = made(call)
    else {
        panic!("no accept")
    };
    assert_eq!((offers, refuse), (vec![OfferId::new("o")], DEFAULT_REFUSAL));
    match operations.remove(0) {
        Operation::Launch(mut orders) => orders.remove(0),
        other => panic!("{other:?}"),
    }
}

fn task(more: Value) -> Value {
    let mut task = json!({
        "task_id": {"value": "t"}, "agent_id": {"value": "a"}, "name": "web", "executor": null,
        "command": {"value": "serve $PORT", "environment": {"variables": [{"name": "PORT", "value": "1"}]}},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.5}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}},
        ],
    });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        task[key] = value;
    }
    task
}

#[test]
fn a_task_becomes_an_order() {
    let more = json!({
        "discovery": {"visibility": "CLUSTER", "name": "site", "ports": {"ports": [{
            "number": 31000, "protocol": "tcp", "labels": {"labels": [{"key": "VIP_0", "value": "/site:80"}]},
        }]}},
        "kill_policy": {"grace_period": {"nanoseconds": 7_000_000_000_u64}},
        "health_check": {"type": "TCP", "tcp": {"port": 31000}, "delay_seconds": 0.0},
    });
    let order = ordered(task(more));
    let spec = order.spec.expect("can be carried out");
    assert_eq!(
        (order.name.as_str(), spec.name.as_str(), order.has_discovery),
        ("web", "site", true)
    );
    assert_eq!(spec.command, model::Command::Shell("serve $PORT".to_owned()));
    assert_eq!(spec.env.get("PORT").map(String::as_str), Some("1"));
    assert_eq!((spec.resources.cpus_milli, spec.resources.mem_mb), (100, 33));
    assert_eq!(spec.host_ports, [31_000, 31_001]);
    assert_eq!(spec.kill.grace, Duration::from_secs(7));
    assert_eq!(spec.ports[0].labels, [("VIP_0".to_owned(), "/site:80".to_owned())]);
    let check = &spec.checks.health[0];
    assert_eq!(
        (check.delay, check.interval, check.max_failures),
        (Duration::ZERO, Duration::from_secs(10), 3)
    );
}

#[test]
fn what_cannot_be_carried_out_is_said_and_not_left_out() {
    for (more, word) in [
        (json!({"executor": {"executor_id": {"value": "e"}}}), "executor"),
        (json!({"check": {}}), "check"),
        (json!({"command": null}), "command"),
        (json!({"command": {"shell": false}}), "image"),
        (
            json!({"command": {"value": "x", "environment": {"variables": [{"name": "A", "secret": {}}]}}}),
            "secret",
        ),
        (json!({"resources": [{"name": "gpus", "scalar": {"value": 1}}]}), "gpus"),
        (json!({"resources": []}), "no resources"),
        (
            json!({"resources": [{"name": "cpus", "scalar": {"value": -1}}]}),
            "cpus",
        ),
        (
            json!({"container": {"type": "DOCKER", "docker": {"network": "NONE"}}}),
            "network",
        ),
        (json!({"container": {"type": "MESOS", "tty_info": {}}}), "tty_info"),
        (
            json!({"container": {"type": "MESOS", "volumes": [{"container_path": "x", "source": {}}]}}),
            "source",
        ),
        (
            json!({"container": {"type": "MESOS", "mesos": {"image": {"type": "APPC"}}}}),
            "APPC",
        ),
        (json!({"health_check": {"type": "HTTP", "http": {}}}), "port"),
    ] {
        let why = ordered(task(more.clone())).spec.expect_err(word);
        assert!(why.contains(word), "{more}: {why}");
    }
    let call = json!({"framework_id": {"value": "f"}, "type": "ACCEPT", "accept": {"operations": [
        {"type": "RESERVE", "id": {"value": "x"}},
        {"type": "LAUNCH_GROUP", "launch_group": {"executor": {"type": "CUSTOM"}, "task_group": {"tasks": [task(json!({}))]}}},
        {"type": "LAUNCH_GROUP", "launch_group": {"executor": {"type": "DEFAULT"}, "task_group": {"tasks": [task(json!({}))]}}},
    ]}});
    let FrameworkCall::Accept { operations, .. } = made(call) else {
        panic!("no accept")
    };
    let Operation::Refused { id, why, .. } = &operations[0] else {
        panic!("{operations:?}")
    };
    assert!(id.as_deref() == Some("x") && why.starts_with("RESERVE"), "{why}");
    let Operation::Refused { tasks, .. } = &operations[1] else {
        panic!("{operations:?}")
    };
    assert_eq!(tasks[..], [(TaskId::new("t"), AgentId::new("a"))]);
    assert!(matches!(&operations[2], Operation::LaunchGroup(tasks) if tasks.len() == 1));
}

#[test]
fn calls_are_read_as_mesos_reads_them() {
    let one = |kind: &str, body: Value| {
        let key = kind.to_lowercase();
        made(json!({"framework_id": {"value": "f"}, "type": kind, (key.as_str()): body}))
    };
    let decline = |filters: Value| match one("DECLINE", json!({"offer_ids": [], "filters": filters})) {
        FrameworkCall::Decline { refuse, .. } => refuse,
        other => panic!("{other:?}"),
    };
    assert_eq!(decline(json!({"refuse_seconds": 0.5})), Duration::from_millis(500));
    assert_eq!(decline(json!({"refuse_seconds": -1.0})), DEFAULT_REFUSAL);
    assert_eq!(decline(json!({"refuse_seconds": 1e12})), LONGEST_REFUSAL);
    assert_eq!(decline(Value::Null), DEFAULT_REFUSAL);
    let uuid = BASE64.encode(&7_u128.to_be_bytes());
    let acknowledge = json!({"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": uuid});
    let expected = FrameworkCall::Acknowledge {
        task: TaskId::new("t"),
        update: UpdateId(7),
    };
    assert_eq!(one("ACKNOWLEDGE", acknowledge), expected);
    let tasks = json!({"tasks": [{"task_id": {"value": "t"}}]});
    assert_eq!(
        one("RECONCILE", tasks),
        FrameworkCall::Reconcile(vec![(TaskId::new("t"), None)])
    );
    for call in [
        json!({}),
        json!({"type": "KILL"}),
        json!({"type": "KILL", "framework_id": {"value": "f"}}),
        json!({"type": "SUBSCRIBE"}),
        json!({"type": "NONSENSE", "framework_id": {"value": "f"}}),
        json!({"type": "ACKNOWLEDGE", "framework_id": {"value": "f"}, "acknowledge": {"uuid": "AAAA", "task_id": {"value": "t"}}}),
    ] {
        assert!(scheduler_call(&call).is_err(), "{call}");
    }
}

#[test]
fn a_framework_says_what_it_is() {
    let spec = |more: Value| {
        let mut info = json!({"user": "root", "name": "x"});
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            info[key] = value;
        }
        match scheduler_call(&json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})) {
            Ok(SchedulerCall::Subscribe { spec, .. }) => spec,
            other => panic!("{other:?}"),
        }
    };
    let plain = spec(json!({"failover_timeout": 2.5, "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "X"}]}));
    let plain = plain.expect("right");
    assert_eq!(
        (plain.roles, plain.failover_timeout),
        (vec!["*".to_owned()], Duration::from_millis(2_500))
    );
    assert_eq!(plain.capabilities.len(), 1);
    let several = json!({"roles": ["a", "b/c"], "capabilities": [{"type": "MULTI_ROLE"}]});
    assert_eq!(spec(several).expect("right").roles, ["a", "b/c"]);
    for wrong in [
        json!({"roles": ["a"]}),
        json!({"role": "a", "capabilities": [{"type": "MULTI_ROLE"}]}),
        json!({"role": "-a"}),
        json!({"role": "a//b"}),
        json!({"failover_timeout": -1.0}),
        json!({"name": null}),
    ] {
        assert!(spec(wrong.clone()).is_err(), "{wrong}");
    }
}
