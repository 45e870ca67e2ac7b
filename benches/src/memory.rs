//! What the kernel says of memory: of this process, and of pinned maps.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// This process's own memory in MiB. The maps that it has mapped are counted with the maps.
pub(crate) fn own_mib() -> Result<f64> {
    field("/proc/self/status", "RssAnon:").map(|kib| kib / 1024.0)
}

/// What the kernel charges for all maps pinned in a directory, in MiB.
pub(crate) fn maps_mib(pins: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for pin in fs::read_dir(pins)? {
        let map = aya::maps::MapData::from_pin(pin?.path())?;
        bytes += field(
            &format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()),
            "memlock:",
        )?;
    }
    Ok(bytes / 1024.0 / 1024.0)
}

/// The number behind a word at the beginning of a line.
fn field(file: &str, word: &str) -> Result<f64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.with_context(|| format!("{file} has no {word}"))?.parse()?)
}
