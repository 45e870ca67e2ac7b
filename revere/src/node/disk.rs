//! The node's memory across restarts: the last service picture, its age, and the agent id.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{AgentId, AgentInfo, Snapshot, StateSnapshot};

use crate::wire;

/// File of the id in the state directory.
pub(super) const AGENT_ID: &str = "agent-id";

/// File of the leading master's address in the state directory.
pub(super) const LEADER: &str = "leader";

/// Marks the file; its last byte is the version of everything before the wire codec's own version byte.
const MAGIC: &[u8; 8] = b"RVRSNAP\x02";

/// Magic, as-of time, checksum.
const HEADER: usize = 8 + 8 + 8;

/// Why a stored picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} is damaged ({why}); it was set aside as {aside}")]
    Damaged { path: PathBuf, why: String, aside: PathBuf },
    #[error("the picture cannot be written: {0}")]
    Encode(#[from] wire::WireError),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { what, path, source }
}

/// Makes the directory this daemon's alone for as long as the file is held: two agents in one directory would each take
/// the other's tasks for their own. The kernel lets go of it however the daemon ends.
/// `None` if another daemon has it.
pub(super) fn lock(dir: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(source),
    }
}

/// The events that lead to `snapshot` again. Agents without an address are not in it; nothing pointed at them.
pub(super) fn state_of(snapshot: &Snapshot) -> StateSnapshot {
    let agents = snapshot.nodes.values().map(|node| AgentInfo {
        id: node.agent.clone(),
        hostname: node.hostname.clone(),
        ip: Some(node.ip),
        port: node.port,
        subnet: node.subnet,
        networks: Arc::clone(&node.networks),
        attributes: Default::default(),
    });
    StateSnapshot {
        agents: agents.collect(),
        recovered_agents: Vec::new(),
        frameworks: snapshot.frameworks.values().cloned().collect(),
        tasks: snapshot.tasks.values().map(|task| task.as_ref().clone()).collect(),
    }
}

/// Writes the picture, true as of that Unix time, in one step.
pub(super) fn save(path: &Path, state: &StateSnapshot, as_of_ms: u64) -> Result<(), DiskError> {
    let body = wire::encode(state)?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&as_of_ms.to_le_bytes());
    bytes.extend_from_slice(&checksum(&as_of_ms.to_le_bytes(), &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    replace(path, &bytes)
}

/// The stored picture and the Unix time it was true at; `None` if there is none. A damaged file is set aside.
pub(super) fn load(path: &Path) -> Result<Option<(StateSnapshot, u64)>, DiskError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", path)(source)),
    };
    read(&bytes).map(Some).map_err(|why| {
        let aside = path.with_extension("damaged");
        // If it cannot be renamed it will be overwritten; the sentence still says what happened to it.
        let _ = fs::rename(path, &aside);
        DiskError::Damaged {
            path: path.to_owned(),
            why,
            aside,
        }
    })
}

fn read(bytes: &[u8]) -> Result<(StateSnapshot, u64), String> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it does not begin like a snapshot of this release")?;
    let (as_of, rest) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
    let (sum, body) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
    if u64::from_le_bytes(*sum) != checksum(as_of, body) {
        return Err("the checksum is wrong".to_owned());
    }
    let state = wire::decode_kept(body).map_err(|error| error.to_string())?;
    Ok((state, u64::from_le_bytes(*as_of)))
}

/// FNV-1a: finds torn and flipped bytes; it is no defence against forgery, and root's file needs none.
fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    head.iter().chain(body).fold(start, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The agent id of an earlier registration.
pub(super) fn load_agent_id(path: &Path) -> Result<Option<AgentId>, DiskError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim()).filter(|id| !id.is_empty()).map(AgentId::new)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path)(source)),
    }
}

/// The master that led when the picture was last written, if any is known.
pub(super) fn load_leader(path: &Path) -> Option<SocketAddr> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Keeps the leading master's address, for `leader.mesos`.
pub(super) fn save_leader(path: &Path, leader: SocketAddr) -> Result<(), DiskError> {
    replace(path, format!("{leader}\n").as_bytes())
}

/// Keeps the agent id.
pub(super) fn save_agent_id(path: &Path, id: &AgentId) -> Result<(), DiskError> {
    replace(path, format!("{id}\n").as_bytes())
}

/// Writes beside the file and renames over it, so that a reader sees the old bytes or the new ones.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()
    };
    write().map_err(io_error("write", &beside))?;
    fs::rename(&beside, path).map_err(io_error("replace", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StateSnapshot {
        StateSnapshot {
            agents: vec![AgentInfo {
                id: AgentId::new("A-S0"),
                hostname: "10.0.0.1".into(),
                ip: Some([10, 0, 0, 1].into()),
                port: None,
                subnet: Some("9.0.1.0/24".parse().expect("valid")),
                networks: Default::default(),
                attributes: Default::default(),
            }],
            ..StateSnapshot::default()
        }
    }

    #[test]
    fn a_directory_has_one_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = lock(dir.path()).expect("a file").expect("free");
        assert!(lock(dir.path()).expect("a file").is_none(), "held");
        drop(held);
        assert!(lock(dir.path()).expect("a file").is_some(), "free again");
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("snapshot");
        assert!(load(&path).expect("absent is fine").is_none());
        save(&path, &state(), 1_234).expect("saved");
        save(&path, &state(), 5_678).expect("replaced");
        assert_eq!(load(&path).expect("loaded"), Some((state(), 5_678)));
        let id = dir.path().join("agent-id");
        assert_eq!(load_agent_id(&id).expect("absent is fine"), None);
        save_agent_id(&id, &AgentId::new("A-S0")).expect("saved");
        assert_eq!(load_agent_id(&id).expect("loaded"), Some(AgentId::new("A-S0")));
        let leader = dir.path().join("leader");
        assert_eq!(load_leader(&leader), None);
        save_leader(&leader, ([10, 0, 0, 1], 5050).into()).expect("saved");
        assert_eq!(load_leader(&leader), Some(([10, 0, 0, 1], 5050).into()));
    }

    #[test]
    fn every_damage_is_found_and_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("snapshot");
        save(&path, &state(), 1_234).expect("saved");
        let good = fs::read(&path).expect("there");
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
        damaged.extend((0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            bytes
        }));
        for bytes in damaged {
            fs::write(&path, &bytes).expect("written");
            assert!(matches!(load(&path), Err(DiskError::Damaged { .. })), "{bytes:?}");
            assert!(!path.exists() && path.with_extension("damaged").exists());
        }
    }
}
