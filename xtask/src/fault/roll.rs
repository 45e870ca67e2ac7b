//! R9: an app is updated again and again while a thousand requests a second arrive, over kept and over new connections.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::Finding;
use super::bench::Bench;
use crate::demo::{At, Load, Report};
use crate::figures::Figure;

const PORT: u16 = 5700;

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (instances, updates, seconds) = if bench.short { (3, 1, 15) } else { (10, 20, 600) };
    let app = json!({
        "id": "/rolling", "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.1, "mem": 16, "instances": instances,
        "env": {"VERSION": "0"},
        "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.3},
        "portDefinitions": [{"protocol": "tcp", "port": PORT, "name": "web", "labels": {"VIP_0": format!("/rolling:{PORT}")}}],
    });
    bench.deploy("rolling", &app.to_string())?;
    bench.cluster.running("/rolling", instances)?;
    let url = format!("http://{}:{PORT}/", bench.address("rolling")?);
    bench.cluster.until("the app answers", |cluster| {
        let args = ["--requests", "50", "--timeout-ms", "500"];
        let report = Load::start(cluster, &At::Outside, &url, &args).ok()?.finish().ok()?;
        (report.failed == 0).then_some(())
    })?;
    let control = requests(bench, &url, 8)?;
    let control = sum(control)?;
    let loads = requests(bench, &url, seconds)?;
    let (began, mut done) = (Instant::now(), 0_u64);
    for version in 1..=updates {
        if began.elapsed().as_secs() + 10 > seconds {
            break;
        }
        bench.update("/rolling", &json!({"env": {"VERSION": version.to_string()}}))?;
        bench.cluster.running("/rolling", instances)?;
        done += 1;
    }
    let (failed, total) = sum(loads)?;
    eprintln!(
        "{done} updates of {instances} tasks: {failed} of {total} requests failed; control {} of {}",
        control.0, control.1
    );
    bench.cluster.cli(&["app", "remove", "/rolling"])?;
    let mut found = Finding::default();
    found.check(control.0 == 0, || format!("the control lost {}", control.0));
    found.check(done > 0, || "no update came to its end".to_owned());
    found.check(failed == 0, || format!("{failed} requests failed"));
    found.figures = vec![
        Figure::failures("R9", failed, total, control.0),
        Figure::failures("R9.updates", 0, done, 0),
    ];
    Ok(found)
}

/// A thousand a second: half over new connections, half over kept ones, from outside and from a node.
fn requests(bench: &Bench, url: &str, seconds: u64) -> Result<Vec<Load>> {
    let time = seconds.to_string();
    let mut loads = Vec::new();
    for at in [At::Outside, At::Host(2)] {
        for kept in [false, true] {
            let mut args = vec!["--seconds", &time, "--rate", "250"];
            if kept {
                args.push("--keep-alive");
            }
            loads.push(Load::start(&bench.cluster, &at, url, &args)?);
        }
    }
    Ok(loads)
}

/// Failed and all. A kept connection that breaks under a request is a failed request.
fn sum(loads: Vec<Load>) -> Result<(u64, u64)> {
    let (mut failed, mut total) = (0, 0);
    for load in loads {
        let name = load.at.name();
        let report: Report = load.finish()?;
        for failure in report.failures.iter().take(3) {
            eprintln!("  {name}: {} {}", failure.kind, failure.detail);
        }
        failed += report.failed;
        total += report.total;
    }
    Ok((failed, total))
}
