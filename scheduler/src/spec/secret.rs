//! Secrets as written: names that belong together, and paths of the store.

use model::Secrets;

use crate::{AppSpec, SecretError};

use super::Faults;

/// Longest path of a secret.
const MAX_PATH: usize = 512;
/// Most bytes of one secret, as on DC/OS.
pub(crate) const MAX_VALUE: usize = 1 << 20;

/// The form of a path in the store (DC/OS's): parts of letters, digits and a few signs, joined by slashes.
pub(crate) fn check_path(path: &str) -> Result<(), SecretError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    if path.len() <= MAX_PATH && path.split('/').all(part) {
        Ok(())
    } else {
        Err(SecretError::Path(path.to_owned()))
    }
}

/// What the app uses; every name must be among its `secrets`.
pub(super) fn secrets(spec: &AppSpec, faults: &mut Faults) -> Secrets {
    for (name, source) in &spec.secrets {
        if let Err(error) = check_path(source) {
            faults.add(format!("/secrets({name})/source"), error.to_string());
        }
    }
    let undefined = |name: &str| {
        let missing = !spec.secrets.contains_key(name);
        missing.then(|| format!("there is no secret {name} in this definition: write {{\"secrets\": {{\"{name}\": {{\"source\": PATH}}}}}}"))
    };
    for (variable, name) in &spec.secret_env {
        let path = format!("/env({variable})/secret");
        if let Some(error) = undefined(name) {
            faults.add(path.clone(), error);
        }
        if variable.is_empty() || variable.contains(['=', '\0']) {
            let error = "the name of a variable must not be empty nor contain `=` or the character NUL";
            faults.add(path, error);
        }
    }
    let mut files = Vec::new();
    for (index, volume) in spec.container.volumes.iter().enumerate() {
        let Some(name) = &volume.secret else { continue };
        let base = format!("/container/volumes({index})");
        if let Some(error) = undefined(name) {
            faults.add(format!("{base}/secret"), error);
        }
        if !volume.host_path.is_empty() || volume.persistent.is_some() {
            faults.add(&base, "a volume is one of hostPath, persistent and secret");
        }
        files.push((volume.container_path.clone(), name.clone()));
    }
    Secrets {
        sources: spec.secrets.clone(),
        env: spec.secret_env.clone(),
        files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_nowhere_else() {
        for good in ["db", "team/db-password", "a/b.c/d_1"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        let long = "x".repeat(MAX_PATH + 1);
        for bad in [
            "",
            "/db",
            "db/",
            "a//b",
            "a/../b",
            ".x",
            "a b",
            "a\n",
            "ä",
            long.as_str(),
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
