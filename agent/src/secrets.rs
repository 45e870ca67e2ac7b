//! Secrets of a task: variables of its plan, and files in its directory that only it sees. Both go with the directory.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use model::{LaunchSpec, SecretValue, SecretValues};

use crate::container::SANDBOX;
use crate::plan::{BindPlan, RunPlan};
use crate::store::TaskDir;

/// Directory of the files in the task's own.
const DIR: &str = "secrets";

fn value<'a>(spec: &LaunchSpec, values: &'a SecretValues, name: &str) -> Result<&'a SecretValue, String> {
    let source = spec.container.secrets.sources.get(name).map_or(name, String::as_str);
    values.get(source).ok_or_else(|| {
        format!(
            "the master gave no secret {source}: make it (revere secret create {source}), or take it out of the app"
        )
    })
}

/// Puts the secrets into a plan; the files are readable for the task's user alone.
pub(crate) fn put(dir: &TaskDir, spec: &LaunchSpec, values: &SecretValues, plan: &mut RunPlan) -> Result<(), String> {
    let secrets = &spec.container.secrets;
    for (variable, name) in &secrets.env {
        let bytes = value(spec, values, name)?.expose().to_vec();
        if bytes.contains(&0) {
            return Err(format!(
                "the secret of the variable {variable} holds a zero byte, which no variable can; see it as a file instead"
            ));
        }
        plan.env.retain(|(known, _)| known != variable);
        plan.env.push((variable.clone(), OsString::from_vec(bytes)));
    }
    if secrets.files.is_empty() {
        return Ok(());
    }
    let home = dir.file(DIR);
    // Of an earlier try to start it.
    let _ = fs::remove_dir_all(&home);
    let made = DirBuilder::new().mode(0o700).create(&home);
    made.map_err(|error| format!("cannot create {}: {error}", home.display()))?;
    for (index, (path, name)) in secrets.files.iter().enumerate() {
        let source = home.join(index.to_string());
        let secret = value(spec, values, name)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&source);
        file.and_then(|mut file| file.write_all(secret.expose()))
            .map_err(|error| format!("cannot write the secret file {path}: {error}"))?;
        plan.owned.push(source.clone());
        let target = if path.starts_with('/') {
            path.clone()
        } else {
            format!("{SANDBOX}/{path}")
        };
        let bind = BindPlan {
            source,
            target,
            read_only: true,
        };
        match &mut plan.container {
            Some(container) => container.volumes.push(bind),
            None => plan.volumes.push(bind),
        }
    }
    Ok(())
}
