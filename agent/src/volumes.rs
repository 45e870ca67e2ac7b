//! Persistent volumes on this node's disk: `volumes/OWNER/NAME`, made when first asked for, removed only on demand.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use model::{KeptVolume, LaunchSpec, volume_attempt, volume_owner};

use crate::container::SANDBOX;
use crate::plan::BindPlan;
use crate::store::is_dir_name;

/// What a directory on its way out is called, so that a node that stops in between goes on with it.
const LEAVING: &str = ".leaving-";

/// The volumes of a task, made where they are missing, as it sees them in its sandbox.
pub(crate) fn ensure(volumes: &Path, spec: &LaunchSpec) -> Result<Vec<BindPlan>, String> {
    let mut binds = kept(volumes, spec)?;
    if spec.container.persistent.is_empty() {
        return Ok(binds);
    }
    let owner = volume_owner(&spec.task);
    let home = home(volumes, owner).map_err(|error| error.to_string())?;
    for volume in &spec.container.persistent {
        if !is_dir_name(&volume.container_path) {
            return Err(format!("`{}` cannot name a volume's directory", volume.container_path));
        }
        let source = home.join(&volume.container_path);
        if !source.exists() && volume_attempt(&spec.task) > 1 {
            tracing::warn!(task = %spec.task, path = %source.display(), "a volume was not here, it begins empty");
        }
        fs::create_dir_all(&source)
            .and_then(|()| fs::set_permissions(&home, fs::Permissions::from_mode(0o700)))
            .map_err(|error| format!("cannot create the volume {}: {error}", source.display()))?;
        binds.push(BindPlan {
            source,
            target: format!("{SANDBOX}/{}", volume.container_path),
            read_only: false,
        });
    }
    Ok(binds)
}

/// What each of a role's volumes holds is a directory of this name in its own.
const DATA: &str = "data";

/// The volumes of roles that a task uses.
fn kept(volumes: &Path, spec: &LaunchSpec) -> Result<Vec<BindPlan>, String> {
    let bind = |volume: &KeptVolume| {
        let home = home(volumes, &volume.owner).map_err(|error| error.to_string())?;
        let source = home.join(DATA);
        fs::create_dir_all(&source)
            .and_then(|()| fs::set_permissions(&home, fs::Permissions::from_mode(0o700)))
            .map_err(|error| format!("cannot create the volume {}: {error}", source.display()))?;
        let path = volume.container_path.as_str();
        let target = match path.strip_prefix('/') {
            // In the node's own root directory there is no place for it.
            Some(_) if spec.container.image.is_some() => path.to_owned(),
            Some(_) => {
                return Err(format!(
                    "the volume's container_path {path} is absolute: without an image write a name, such as data"
                ));
            }
            None if is_dir_name(path) => format!("{SANDBOX}/{path}"),
            None => return Err(format!("`{path}` cannot name a volume's directory")),
        };
        Ok(BindPlan {
            source,
            target,
            read_only: false,
        })
    };
    spec.container.kept.iter().map(bind).collect()
}

fn home(volumes: &Path, owner: &str) -> io::Result<PathBuf> {
    if is_dir_name(owner) {
        Ok(volumes.join(owner))
    } else {
        Err(io::Error::other(format!(
            "`{owner}` cannot name a directory of volumes"
        )))
    }
}

/// Removes all volumes of an owner; that there are none is as good.
pub(crate) fn remove(volumes: &Path, owner: &str) -> io::Result<()> {
    let home = home(volumes, owner)?;
    let leaving = volumes.join(format!("{LEAVING}{owner}"));
    // From an earlier try.
    gone(fs::remove_dir_all(&leaving))?;
    gone(fs::rename(home, &leaving))?;
    gone(fs::remove_dir_all(&leaving))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owners_volumes_go_whole_and_nobody_elses() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |owner: &str| dir.path().join(owner).join("data/file");
        for owner in ["db.instance-1", "db.instance-2", ".leaving-db.instance-1"] {
            fs::create_dir_all(file(owner).parent().expect("a parent")).expect("made");
            fs::write(file(owner), "x").expect("written");
        }
        remove(dir.path(), "db.instance-1").expect("removed");
        remove(dir.path(), "db.instance-1").expect("nothing left is as good");
        let left: Vec<_> = fs::read_dir(dir.path()).expect("read").flatten().collect();
        assert_eq!(left.len(), 1);
        assert!(file("db.instance-2").exists());
        for odd in ["", ".", "..", "a/b", "/etc", ".leaving-x"] {
            assert!(remove(dir.path(), odd).is_err(), "{odd}");
        }
    }
}
