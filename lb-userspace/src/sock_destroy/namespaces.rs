//! Every network namespace of the node that some thread is in, or that is mounted where `ip netns` keeps them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Namespaces that `ip netns` made; a socket may outlive the last process in one.
const NAMED: &str = "/run/netns";

/// Opens each once. What goes away while this looks is left out.
pub fn namespaces() -> io::Result<Vec<OwnedFd>> {
    let mut found = Found::default();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let number = process.file_name();
        if !number.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(threads) = fs::read_dir(process.path().join("task")) else {
            continue;
        };
        for thread in threads.flatten() {
            found.look(&thread.path().join("ns/net"));
        }
    }
    for named in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        found.look(&named.path());
    }
    Ok(found.open)
}

#[derive(Default)]
struct Found {
    seen: BTreeSet<(u64, u64)>,
    open: Vec<OwnedFd>,
}

impl Found {
    fn look(&mut self, path: &Path) {
        let Ok(facts) = fs::metadata(path) else { return };
        let name = (facts.dev(), facts.ino());
        if self.seen.contains(&name) {
            return;
        }
        if let Ok(file) = File::open(path) {
            self.seen.insert(name);
            self.open.push(file.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_threads_own_is_among_them_and_each_is_there_once() {
        let all = namespaces().expect("/proc");
        let numbers: Vec<u64> = all
            .into_iter()
            .map(|namespace| File::from(namespace).metadata().expect("open").ino())
            .collect();
        let own = fs::metadata("/proc/thread-self/ns/net").expect("/proc").ino();
        assert!(numbers.contains(&own));
        let once: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(once.len(), numbers.len());
    }
}
