//! A store that does not answer while agents come and go.

use super::lead::{on, started};
use super::*;
use crate::etcd::tests::{Fake, Fault};

#[tokio::test]
async fn orders_that_waited_are_not_sent_over_a_later_connection() {
    let fake = Fake::start().await;
    let master = started(&on(&fake)).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    fake.meets(&[Fault::Full; 100_000]);
    let ended = AgentMessage::Status {
        sequence: 100,
        task: specs[0].task.clone(),
        status: status(TaskState::Failed),
    };
    agent.stream.send(ended).await.expect("sent");
    master
        .until("/v2/apps/my-service", |app| app["app"]["tasksStaged"] == 1)
        .await;
    // Its successor is to be launched once the store answers. Before that the agent comes anew, and has no such task.
    let tasks = specs[1..].iter().map(|spec| ReportedTask {
        spec: spec.clone(),
        status: status(TaskState::Running),
    });
    let mut again = Agent::register(&master, Some(agent.id.clone()), tasks.collect()).await;
    fake.recovers();
    let launched = loop {
        match next(&mut again.stream).await {
            MasterMessage::Launch(spec) => break *spec,
            MasterMessage::Ack { .. } | MasterMessage::Heartbeat => {}
            other => panic!("{other:?} instead of a launch"),
        }
    };
    let others = again.status(&launched, TaskState::Running).await;
    let launches = others.iter().filter(|one| matches!(one, MasterMessage::Launch(_)));
    assert_eq!(launches.count(), 0, "launched twice: {others:?}");
    master
        .until("/v2/apps/my-service", |app| app["app"]["tasksRunning"] == 3)
        .await;
    master.stop().await;
}
