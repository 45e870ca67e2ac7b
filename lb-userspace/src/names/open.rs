//! Opening: maps by their pins, the program through the verifier, links on the interfaces; and taking it all off.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::{NAME_LAYOUT, NameConfig};

use super::{NameMap, Settings, config};
use crate::pins::Pins;
use crate::{OpenError, XdpMode, open, raw};

#[cfg(revere_names_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("REVERE_NAMES_OBJECT_PATH"));
#[cfg(not(revere_names_object))]
static OBJECT: &[u8] = &[];

pub(super) const PROGRAM: &str = "revere_names";
/// Maps that outlive the daemon.
const PINNED: [&str; 3] = ["NAMES", CONFIG, "NAME_COUNTS"];
const CONFIG: &str = "NAME_CONFIG";
/// Folders of pins below the node's: this, and the number of the layout.
const FOLDER: &str = "names-";
const LINK: &str = "xdp-";

/// Why names can't be answered there. What was attached before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// This binary was built without the BPF object.
    #[error("this binary holds no program that answers names: run `cargo xtask build-ebpf` and build it again")]
    NoObject,
    /// Privileges, kernel, bpffs.
    #[error(transparent)]
    Machine(#[from] OpenError),
    /// No such interface.
    #[error(
        "there is no interface `{0}` to answer names on; `ip link` lists those there are, and `lo` is where programs of this machine ask"
    )]
    Interface(String),
    /// The object was refused.
    #[error("could not load the BPF object that answers names: {0}")]
    Load(#[from] EbpfError),
    /// The program was refused.
    #[error("could not load the BPF program that answers names: {0}")]
    Program(#[from] ProgramError),
    /// A map could not be used.
    #[error("could not use the BPF map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// A program could not be attached.
    #[error("could not attach the program that answers names to {interface}: {source}")]
    Attach {
        /// The interface.
        interface: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Pins of an earlier daemon.
    #[error("could not remove {}: {source}; remove it by hand to stop answering names there", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl NameMap {
    /// Opens it. Answers that an earlier daemon left are answered on, under the new settings; interfaces it looked at and
    /// this one does not are let go.
    pub fn open(settings: Settings) -> Result<Self, NamesError> {
        if OBJECT.is_empty() {
            return Err(NamesError::NoObject);
        }
        if let Some(missing) = settings.interfaces.iter().find(|name| open::ifindex(name).is_none()) {
            return Err(NamesError::Interface(missing.clone()));
        }
        open::machine()?;
        open::bpffs(&settings.bpffs)?;
        remove_but(&settings.bpffs, &folder())?;
        let dir = settings.bpffs.join(folder());
        open::bpffs(&dir)?;
        let mut loader = EbpfLoader::new();
        for name in PINNED {
            loader.map_pin_path(name, dir.join("maps").join(name));
        }
        let mut ebpf = loader.load(OBJECT)?;
        let program = ebpf.program_mut(PROGRAM).ok_or(NamesError::NoObject)?;
        open::load_program(program)?;
        let mut map = Self {
            names: take(&mut ebpf, "NAMES")?,
            config: take(&mut ebpf, CONFIG)?,
            counts: take(&mut ebpf, "NAME_COUNTS")?,
            ebpf,
            settings,
            pins: Pins::default(),
        };
        let failed = |source| NamesError::Map { name: CONFIG, source };
        let old = map.config.get(&0, 0).map_err(failed)?;
        map.config.set(0, config(&map.settings, &old), 0).map_err(failed)?;
        map.let_go()?;
        for interface in map.settings.interfaces.clone() {
            map.attach(&interface)?;
        }
        map.pins = Pins::all(&dir);
        Ok(map)
    }

    fn link(&self, interface: &str) -> PathBuf {
        // A bpffs refuses names with a dot, which VLAN interfaces have.
        let name = format!("{LINK}{}", interface.replace('.', "_"));
        self.settings.bpffs.join(folder()).join("links").join(name)
    }

    /// Gives an interface the program: in one step where an earlier one is.
    fn attach(&mut self, interface: &str) -> Result<(), NamesError> {
        let failed = |source| NamesError::Attach {
            interface: interface.to_owned(),
            source,
        };
        let pin = self.link(interface);
        let program = self.ebpf.program_mut(PROGRAM).ok_or(NamesError::NoObject)?;
        if let Some(link) = live(&pin, interface) {
            let Program::Xdp(program) = program else {
                return Err(NamesError::NoObject);
            };
            let program = program.fd()?.as_fd();
            return raw::link_update(link.as_fd(), program).map_err(|error| failed(error.into()));
        }
        self.pins.release(&pin);
        remove_pin(&pin)?;
        // Generic: `lo` has no other, and a veth sends what a native program sends back only if its other end has one too.
        let link = open::attach_xdp(program, interface, XdpMode::Generic).map_err(failed)?;
        link.pin(&pin).map_err(|error| failed(error.into()))?;
        self.pins.hold(pin);
        Ok(())
    }

    /// Takes the program off interfaces that are not in the settings.
    fn let_go(&self) -> Result<(), NamesError> {
        let wanted: Vec<PathBuf> = self.settings.interfaces.iter().map(|name| self.link(name)).collect();
        let links = self.settings.bpffs.join(folder()).join("links");
        for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
            if !wanted.contains(&entry.path()) {
                remove_pin(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Puts back what somebody took off or unpinned; tells on which interfaces.
    pub fn restore(&mut self) -> Result<Vec<String>, NamesError> {
        let (back, _) = self.pins.restore();
        let mut restored: Vec<String> = back.iter().map(|pin| pin.display().to_string()).collect();
        for interface in self.settings.interfaces.clone() {
            let pin = self.link(&interface);
            let held = || self.pins.held(&pin).filter(|link| leads_to(link, &interface));
            if live(&pin, &interface).or_else(held).is_none() && open::ifindex(&interface).is_some() {
                self.attach(&interface)?;
                restored.push(interface);
            }
        }
        Ok(restored)
    }
}

fn folder() -> String {
    format!("{FOLDER}{NAME_LAYOUT}")
}

/// The link pinned there, if it still leads to the interface.
fn live(pin: &Path, interface: &str) -> Option<OwnedFd> {
    raw::obj_get(pin).ok().filter(|link| leads_to(link, interface))
}

fn leads_to(link: &OwnedFd, interface: &str) -> bool {
    let target = raw::link_target(link.as_fd()).map(|target| target & 0xffff_ffff).ok();
    target.is_some() && target == open::ifindex(interface).map(u64::from)
}

/// Takes all of it off: nothing is answered but by the server any more.
pub fn remove(bpffs: &Path) -> Result<(), NamesError> {
    remove_but(bpffs, "")
}

/// Stops answering at once and leaves the rest as it is; for whoever ends the server without a daemon's help.
pub fn silence(bpffs: &Path) -> Result<(), NamesError> {
    let failed = |source| NamesError::Map { name: CONFIG, source };
    let pin = bpffs.join(folder()).join("maps").join(CONFIG);
    if !pin.exists() {
        return Ok(());
    }
    let map = MapData::from_pin(&pin).map_err(failed)?;
    let mut map: Array<MapData, NameConfig> = Map::Array(map).try_into().map_err(failed)?;
    let mut config = map.get(&0, 0).map_err(failed)?;
    config.until = 0;
    map.set(0, config, 0).map_err(failed)
}

/// Removes the pins of all layouts but one.
fn remove_but(bpffs: &Path, kept: &str) -> Result<(), NamesError> {
    for entry in std::fs::read_dir(bpffs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(FOLDER) || name == kept {
            continue;
        }
        // Links first: no program is left with maps that nobody knows.
        for folder in ["links", "maps"] {
            let folder = entry.path().join(folder);
            for pin in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                remove_pin(&pin.path())?;
            }
            remove_folder(&folder)?;
        }
        remove_folder(&entry.path())?;
    }
    Ok(())
}

fn remove_folder(path: &Path) -> Result<(), NamesError> {
    gone(path, std::fs::remove_dir(path))
}

fn remove_pin(path: &Path) -> Result<(), NamesError> {
    gone(path, std::fs::remove_file(path))
}

fn gone(path: &Path, removed: io::Result<()>) -> Result<(), NamesError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NamesError::Pin {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, NamesError> {
    let missing = MapError::InvalidName { name: name.to_owned() };
    let map = ebpf.take_map(name).ok_or(NamesError::Map { name, source: missing })?;
    T::try_from(map).map_err(|source| NamesError::Map { name, source })
}
