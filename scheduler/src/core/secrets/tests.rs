//! Who may make and remove secrets, who hears of them, and what a definition may name.

use std::collections::BTreeMap;

use model::TaskId;

use crate::{AppSpec, Command};

use super::super::tests::Bench;
use super::*;

fn put(bench: &mut Bench, path: &str, value: &str, put: Put) -> Result<Reply, CommandError> {
    bench.command(Command::PutSecret {
        path: path.to_owned(),
        value: SecretValue::new(value.as_bytes().to_vec()),
        put,
    })
}

fn remove(bench: &mut Bench, path: &str) -> Result<Reply, CommandError> {
    bench.command(Command::RemoveSecret { path: path.to_owned() })
}

fn app() -> Command {
    Command::CreateApp(Box::new(AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        secrets: BTreeMap::from([("pw".to_owned(), "team/db".to_owned())]),
        secret_env: BTreeMap::from([("PASSWORD".to_owned(), "pw".to_owned())]),
        ..AppSpec::default()
    }))
}

/// The orders of what followed, in order: a task's secrets, or its launch.
fn orders(bench: &mut Bench) -> Vec<(TaskId, Option<SecretValues>)> {
    let order = |effect| match effect {
        Effect::Secrets { task, values, .. } => Some((task, Some(values))),
        Effect::Launch { spec, .. } => Some((spec.task, None)),
        _ => None,
    };
    bench.effects().into_iter().filter_map(order).collect()
}

#[test]
fn values_go_with_each_launch_and_nowhere_else() {
    let mut bench = Bench::new();
    bench.register(None, Vec::new());
    let faults = bench.command(app()).expect_err("the store is empty");
    assert!(
        matches!(&faults, CommandError::Invalid(faults) if faults[0].path == "/secrets(pw)/source"),
        "{faults:?}"
    );
    put(&mut bench, "team/db", "first", Put::New).expect("new");
    bench.command(app()).expect("valid");
    let told = orders(&mut bench);
    assert_eq!(told[0].1.as_ref().expect("values")["team/db"].expose(), b"first");
    assert_eq!((told.len(), told[1].1.is_none(), &told[0].0), (2, true, &told[1].0));
    // What is kept and shown of the task has the path alone.
    let shown = format!("{:?}", bench.core.instances().collect::<Vec<_>>());
    assert!(shown.contains("team/db") && !shown.contains("first"), "{shown}");
    put(&mut bench, "team/db", "second", Put::Change).expect("there");
    bench.next_timer();
    let again = orders(&mut bench);
    assert_eq!(
        again[0].1.as_ref().expect("values")["team/db"].expose(),
        b"second",
        "not started yet"
    );
}

#[test]
fn secrets_in_use_stay_and_all_survive_a_restart() {
    let mut bench = Bench::new();
    put(&mut bench, "team/db", "x", Put::New).expect("new");
    put(&mut bench, "other", "y", Put::New).expect("new");
    bench.command(app()).expect("valid");
    let refused = [
        put(&mut bench, "other", "z", Put::New),
        put(&mut bench, "none", "z", Put::Change),
        put(&mut bench, "../x", "z", Put::New),
        remove(&mut bench, "none"),
        remove(&mut bench, "team/db"),
    ];
    for refusal in refused {
        assert!(matches!(refusal, Err(CommandError::Secret(_))), "{refusal:?}");
    }
    remove(&mut bench, "other").expect("used by nobody");
    bench.effects();
    let restored = Bench::restored(bench.stored.clone());
    assert_eq!(restored.core.secret_paths().collect::<Vec<_>>(), ["team/db"]);
}

#[test]
fn names_must_be_defined() {
    let mut bench = Bench::new();
    let Command::CreateApp(mut spec) = app() else {
        unreachable!("made so")
    };
    spec.secrets.clear();
    let refused = bench.command(Command::CreateApp(spec)).expect_err("refused");
    assert!(
        matches!(&refused, CommandError::Invalid(faults) if faults[0].path == "/env(PASSWORD)/secret"),
        "{refused:?}"
    );
}
