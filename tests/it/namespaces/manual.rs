//! The commands of "Several masters" in docs/operations.md, as they stand there, with the addresses of a lab.

use rustix::process::Signal;

use super::store::{Few, PLAIN, on_few};
use super::*;

const MANUAL: &str = include_str!("../../../docs/operations.md");

/// Every command of the section: lines of its blocks, and what begins with `revere` between backquotes.
fn commands() -> Result<Vec<String>> {
    let section = MANUAL
        .split_once("\n## Several masters\n")
        .context("the manual has no such section")?
        .1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.lines().filter_map(|line| line.strip_prefix("    revere "));
    let inline = section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|text| text.strip_prefix("revere "));
    let plain = |text: &str| text.split('#').next().unwrap_or_default().trim().to_owned();
    Ok(blocks.chain(inline).map(plain).collect())
}

/// Takes the one that begins so.
fn take(commands: &mut Vec<String>, start: &str) -> Result<String> {
    let place = commands.iter().position(|command| command.starts_with(start));
    let place = place.with_context(|| format!("the manual does not tell of `revere {start}`"))?;
    Ok(commands.remove(place))
}

fn run(few: &Few, number: u8, command: &str) -> Result<String> {
    let revere = few.revere.to_str().context("a plain path")?;
    let line = format!(
        "REVERE_MASTER=http://{}:5050 exec {revere} {command}",
        xtask::lab::underlay(number)
    );
    few.place(number).sh(&line).with_context(|| format!("revere {command}"))
}

#[test]
fn the_manuals_commands_for_masters_do_what_it_says() {
    on_few("", PLAIN, |few| {
        let dir = few.place(2).dir.clone();
        let (old, new, file) = (dir.join("old"), dir.join("new"), dir.join("backup"));
        let here = |command: String| {
            command
                .replace("E1:2379,E2:2379,E3:2379", "E1:2379")
                .replace("E1:2379", "10.99.0.1:2379")
                .replace("FILE", &file.display().to_string())
        };
        let mut left: Vec<String> = commands()?.into_iter().map(here).collect();
        // The lab's nodes are started so, in the tests of masters.
        take(&mut left, "node --master http://")?;
        let into = take(&mut left, "state move --from /var/lib/revere/master --to etcd://")?;
        let back = take(&mut left, "state move --from etcd://")?;
        let revere = few.revere.to_str().context("a plain path")?.to_owned();
        let one = ["--state-dir", old.to_str().context("a plain path")?];
        let mut alone = few
            .place(2)
            .spawn("master", &[&[revere.as_str(), "master"][..], &one].concat(), &[])?;
        few.until("a write is taken", || {
            matches!(few.create(2, "old"), Ok((201 | 409, _))).then_some(())
        })?;
        alone.signal(Signal::TERM)?;
        alone.wait()?;
        few.until("etcd answers", || {
            few.etcd("maintenance/status", &serde_json::json!({})).ok()
        })?;
        run(few, 2, &into.replace("/var/lib/revere/master", one[1]))?;
        let start = take(&mut left, "master --store etcd://")?;
        for number in [2, 3] {
            let line = format!(
                "exec {revere} {}",
                start.replace("10.0.0.1", &xtask::lab::underlay(number))
            );
            let master = few.place(number).spawn("master", &["sh", "-c", &line], &[])?;
            few.masters.push(master);
        }
        let list = take(&mut left, "master list")?;
        let both = few.until("both masters are listed and one leads", || {
            let told = run(few, 2, &list).ok()?;
            let all = told.contains("10.99.0.2:5050") && told.contains("10.99.0.3:5050");
            (all && few.ask(2, "GET /v2/leader", "").ok()?.0 == 200).then_some(told)
        });
        both?;
        ensure!(few.apps(2)? == ["/w/old"], "{:?}", few.apps(2)?);
        let before = few.ask(2, "GET /v2/leader", "")?.1;
        run(few, 3, &take(&mut left, "master step-down")?)?;
        few.until("another master leads", || {
            let (status, after) = few.ask(2, "GET /v2/leader", "").ok()?;
            (status == 200 && after != before).then_some(())
        })?;
        while let Ok(backup) = take(&mut left, "backup ") {
            let _ = std::fs::remove_file(&file);
            few.until("a backup is written", || run(few, 2, &backup).ok())?;
        }
        run(few, 2, &take(&mut left, "restore ")?.replace(":2379", ":2379/second"))?;
        few.stop_masters()?;
        let back = back.replace("/var/lib/revere/master", &new.display().to_string());
        // A master that only waited counts until its lease has ended.
        few.until("the memory is moved back", || run(few, 2, &back).ok())?;
        // What only looks is left.
        left.retain(|command| command != "status");
        ensure!(
            left.is_empty(),
            "the manual has commands that are not run here: {left:?}"
        );
        Ok(())
    });
}
