//! Groups, layers and cancelled deployments, one command at a time.

use model::TaskState;

use super::super::tests::Bench;
use crate::{
    ActionKind, AfterKill, AppSpec, Cancel, Command, CommandError, Force, GroupChange, GroupSpec, Record, Reply, Run,
};

fn app(id: &str, cmd: &str, dependencies: &[&str]) -> AppSpec {
    AppSpec {
        id: id.to_owned(),
        cmd: Some(cmd.to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        port_definitions: Some(Vec::new()),
        dependencies: dependencies.iter().map(|text| (*text).to_owned()).collect(),
        ..AppSpec::default()
    }
}

fn put(bench: &mut Bench, apps: Vec<AppSpec>, run: Run) -> Result<Reply, CommandError> {
    let spec = GroupSpec {
        apps: Some(apps),
        ..GroupSpec::default()
    };
    bench.command(Command::Group {
        id: "/g".to_owned(),
        change: GroupChange::Update(Box::new(spec)),
        force: Force::No,
        run,
    })
}

/// Apps whose instances are launched now, each told to run.
fn start(bench: &mut Bench, agent: &model::AgentId) -> Vec<String> {
    let specs = bench.launches();
    for spec in &specs {
        bench.tell(agent, &spec.task, TaskState::Running);
    }
    specs
        .into_iter()
        .map(|spec| spec.env["MARATHON_APP_ID"].clone())
        .collect()
}

#[test]
fn a_chain_is_updated_link_by_link_also_over_a_restart_of_the_master() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let chain = |cmd: &str| {
        vec![
            app("front", cmd, &["../back"]),
            app("back", cmd, &["/g/db"]),
            app("db", cmd, &["/not/there"]),
        ]
    };
    put(&mut bench, chain("one"), Run::Real).expect("valid");
    for wanted in ["/g/db", "/g/back", "/g/front"] {
        assert_eq!(start(&mut bench, &agent), [wanted]);
    }
    assert!(bench.core.deployments().is_empty());
    let reply = put(&mut bench, chain("two"), Run::Real).expect("valid");
    let kinds: Vec<ActionKind> = reply.steps.iter().flatten().map(|action| action.kind).collect();
    assert_eq!(kinds, [ActionKind::Restart; 3]);
    assert_eq!(start(&mut bench, &agent), ["/g/db"]);
    for task in bench.kills() {
        bench.tell(&agent, &task, TaskState::Killed);
    }
    // The next link has its turn; a core that goes on from the records knows that, and that the last one has not.
    let back = bench.launches();
    let restored = Bench::restored(bench.stored.clone());
    assert_eq!(restored.core.deployments()[0].step, 1);
    assert_eq!((back.len(), back[0].env["MARATHON_APP_ID"].as_str()), (1, "/g/back"));
    bench.tell(&agent, &back[0].task, TaskState::Running);
    for task in bench.kills() {
        bench.tell(&agent, &task, TaskState::Killed);
    }
    assert_eq!(start(&mut bench, &agent), ["/g/front"]);
}

#[test]
fn what_waits_for_its_turn_is_kept_by_its_old_definition() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let pair = |cmd: &str| vec![app("front", cmd, &["/g/db"]), app("db", cmd, &[])];
    put(&mut bench, pair("one"), Run::Real).expect("valid");
    assert_eq!(start(&mut bench, &agent), ["/g/db"]);
    assert_eq!(start(&mut bench, &agent), ["/g/front"]);
    put(&mut bench, pair("two"), Run::Real).expect("valid");
    bench.launches();
    let front = bench.core.app("/g/front").expect("there").id.clone();
    let task = bench.core.instances_of(&front).next().expect("runs").spec.task.clone();
    bench.tell(&agent, &task, TaskState::Killed);
    let again = bench.launches();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].command, model::Command::Shell("one".to_owned()));
}

#[test]
fn circles_and_conflicts_refuse_all() {
    let mut bench = Bench::new();
    bench.effects();
    let refused = |bench: &mut Bench, apps| match put(bench, apps, Run::Real) {
        Err(CommandError::Invalid(faults)) => faults[0].errors[0].clone(),
        other => panic!("{other:?}"),
    };
    let circle = vec![
        app("a", "x", &["/g/b"]),
        app("b", "x", &["/g/c"]),
        app("c", "x", &["/g/a"]),
    ];
    assert!(refused(&mut bench, circle).contains("/g/a -> /g/b -> /g/c -> /g/a"));
    assert!(
        refused(&mut bench, vec![app("a", "x", &["/g"])]).contains("circle"),
        "its own group"
    );
    let long: Vec<AppSpec> = (0..3_000)
        .map(|number| app(&format!("n{number}"), "x", &[&format!("/g/n{}", number + 1)]))
        .collect();
    let dry = put(&mut bench, long, Run::Dry).expect("a chain is no circle");
    assert_eq!(dry.steps.len(), 3_001);
    let told = |effect: &crate::Effect| !matches!(effect, crate::Effect::Tell(_));
    assert!(!bench.effects().iter().any(told), "nothing has changed");
    put(&mut bench, vec![app("a", "x", &[])], Run::Real).expect("valid");
    let inside = bench.command(Command::CreateApp(Box::new(app("/g/a/b", "x", &[]))));
    assert!(matches!(inside, Err(CommandError::Invalid(_))));
    let group_id = bench.command(Command::CreateApp(Box::new(app("/g", "x", &[]))));
    assert!(matches!(group_id, Err(CommandError::Invalid(_))));
}

#[test]
fn a_removed_app_comes_back_with_its_deployment() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    put(&mut bench, vec![app("a", "x", &[]), app("b", "x", &[])], Run::Real).expect("valid");
    start(&mut bench, &agent);
    put(&mut bench, vec![app("a", "y", &[])], Run::Real).expect("valid");
    bench.launches();
    let id = bench.core.deployments()[0].id.clone();
    let cancel = |id: &str| Command::CancelDeployment {
        id: id.to_owned(),
        how: Cancel::RollBack,
    };
    bench.command(cancel(&id)).expect("under way");
    let a = bench.core.app("/g/a").expect("there");
    assert_eq!(a.command, model::Command::Shell("x".to_owned()));
    assert!(a.last_config_change < a.version);
    assert!(bench.core.app("/g/b").is_some());
    assert_eq!(bench.command(cancel(&id)), Err(CommandError::NoDeployment(id)));
}

#[test]
fn ending_tasks_with_scaling_ends_those_and_no_others() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let three = AppSpec {
        instances: Some(3),
        ..app("a", "x", &[])
    };
    put(&mut bench, vec![three], Run::Real).expect("valid");
    start(&mut bench, &agent);
    let oldest = bench.core.instances().next().expect("runs").spec.task.clone();
    bench.effects();
    let kill = Command::KillTasks {
        tasks: vec![oldest.to_string(), oldest.to_string()],
        then: AfterKill::Scale,
        volumes: crate::Volumes::Keep,
        force: Force::No,
    };
    bench.command(kill).expect("runs");
    assert_eq!(bench.kills(), [oldest]);
    assert_eq!(bench.core.app("/g/a").expect("there").instances, 2);
}

#[test]
fn versions_of_groups_are_kept_and_bounded() {
    let mut bench = Bench::new();
    for number in 0..30 {
        bench.now += 1;
        let apps = vec![AppSpec {
            instances: Some(0),
            ..app("a", &format!("v{number}"), &[])
        }];
        put(&mut bench, apps, Run::Real).expect("valid");
    }
    let id = crate::GroupId::parse("/", "g").expect("valid");
    let versions = bench.core.group_versions(&id);
    assert_eq!(versions.len(), super::MOST_GROUP_VERSIONS);
    bench.effects();
    let kept = |record: &&Record| matches!(record, Record::PutGroupVersion(_));
    assert!(bench.stored.iter().filter(kept).count() >= 30);
    assert_eq!(Bench::restored(bench.stored.clone()).core.group_versions(&id), versions);
    let back = Command::Group {
        id: "/g".to_owned(),
        change: GroupChange::RollBack(versions[1]),
        force: Force::No,
        run: Run::Real,
    };
    bench.command(back).expect("kept");
    let a = bench.core.app("/g/a").expect("there");
    assert_eq!(a.command, model::Command::Shell("v28".to_owned()));
}
