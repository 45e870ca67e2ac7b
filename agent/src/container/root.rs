//! Looks into an image's layers and into a sandbox from outside, without being led out of them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;

use crate::image::Ready;

/// Longest file of users that is read.
const MAX_FILE: u64 = 1 << 20;
const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A file of the image as the topmost layer has it; none if no layer has it, or the topmost one deletes it.
pub(super) fn read(image: &Ready, path: &str) -> Option<String> {
    for layer in image.layers.iter().rev() {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let root = open(image.dir.join(layer), flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let found = match openat2(&root, path, flags, Mode::empty(), WITHIN) {
            Ok(found) => File::from(found),
            Err(Errno::NOENT) => continue,
            Err(_) => return None,
        };
        if !found.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        found.take(MAX_FILE).read_to_end(&mut text).ok()?;
        return Some(String::from_utf8_lossy(&text).into_owned());
    }
    None
}

/// A directory below the sandbox, made where it is missing. The task may have put links there: none is followed.
pub(crate) fn directory_in(sandbox: &Path, path: &str) -> Result<PathBuf, String> {
    let told =
        |error: &dyn std::fmt::Display| format!("cannot create the volume's directory {path} in the sandbox: {error}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    fs::create_dir_all(sandbox).map_err(|error| told(&error))?;
    let root = open(sandbox, flags, Mode::empty()).map_err(|error| told(&error))?;
    let mut whole = PathBuf::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        whole.push(part);
        match mkdirat(&root, &whole, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(told(&error)),
        }
        let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&root, &whole, flags, Mode::empty(), strict).map_err(|error| told(&error))?;
    }
    Ok(sandbox.join(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_without_following_links() {
        let outside = tempfile::tempdir().expect("tempdir");
        let sandbox = tempfile::tempdir().expect("tempdir");
        let made = directory_in(sandbox.path(), "./a/b").expect("makes");
        assert_eq!(made, sandbox.path().join("a/b"));
        assert!(
            made.is_dir() && directory_in(sandbox.path(), "a/b").is_ok(),
            "there already"
        );
        std::os::unix::fs::symlink(outside.path(), sandbox.path().join("link")).expect("links");
        assert!(directory_in(sandbox.path(), "link/x").is_err());
        assert_eq!(fs::read_dir(outside.path()).expect("reads").count(), 0);
    }

    #[test]
    fn the_topmost_layer_has_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let write = |layer: &str, text: &str| {
            fs::create_dir_all(dir.path().join(layer).join("etc")).expect("makes");
            fs::write(dir.path().join(layer).join("etc/passwd"), text).expect("writes");
        };
        write("low", "low");
        write("high", "high");
        fs::create_dir(dir.path().join("empty")).expect("makes");
        let image = |layers: &[&str]| Ready {
            run: Default::default(),
            dir: dir.path().to_owned(),
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
        };
        assert_eq!(
            read(&image(&["low", "high", "empty"]), "etc/passwd").as_deref(),
            Some("high")
        );
        assert_eq!(read(&image(&["empty"]), "etc/passwd"), None);
    }
}
