//! Holds everything that is pinned, so that whoever removes a pin removes a name and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use crate::raw;

/// Folders of pins below the daemon's own.
const FOLDERS: [&str; 2] = ["maps", LINKS];
const LINKS: &str = "links";

/// Descriptors by pin.
#[derive(Debug, Default)]
pub(crate) struct Pins(BTreeMap<PathBuf, OwnedFd>);

impl Pins {
    /// Takes hold of all there are.
    pub(crate) fn all(bpffs: &Path) -> Self {
        let mut pins = Self::default();
        for folder in FOLDERS {
            for entry in std::fs::read_dir(bpffs.join(folder)).into_iter().flatten().flatten() {
                pins.hold(entry.path());
            }
        }
        pins
    }

    /// Takes hold of one that is new. One that cannot be opened is as safe as its pin, no more.
    pub(crate) fn hold(&mut self, pin: PathBuf) {
        if let Ok(object) = raw::obj_get(&pin) {
            self.0.insert(pin, object);
        }
    }

    /// What is held of a pin, whether or not somebody has removed that.
    pub(crate) fn held(&self, pin: &Path) -> Option<OwnedFd> {
        self.0.get(pin)?.try_clone().ok()
    }

    /// Lets go of one that is to be removed.
    pub(crate) fn release(&mut self, pin: &Path) {
        self.0.remove(pin);
    }

    /// Pins again what has lost its pin; tells which, and which could not be. Links that lead nowhere any more are let go.
    pub(crate) fn restore(&mut self) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
        let (mut back, mut failed) = (Vec::new(), Vec::new());
        self.0.retain(|pin, object| {
            if pin.exists() {
                return true;
            }
            let is_link = pin.parent().is_some_and(|folder| folder.ends_with(LINKS));
            if is_link && raw::link_target(object.as_fd()).is_ok_and(|target| target & 0xffff_ffff == 0) {
                return false;
            }
            match again(pin, object) {
                Ok(()) => back.push(pin.clone()),
                Err(error) => failed.push((pin.clone(), error)),
            }
            true
        });
        (back, failed)
    }
}

fn again(pin: &Path, object: &OwnedFd) -> io::Result<()> {
    if let Some(folder) = pin.parent() {
        std::fs::create_dir_all(folder)?;
    }
    raw::obj_pin(object.as_fd(), pin)
}
