//! Whether TCP ports listen in a process's network namespace, from `/proc/PID/net`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// `TCP_LISTEN` of the kernel, as `/proc/net/tcp` prints it.
const LISTEN: &str = "0A";
/// Pause between two looks at first: a starting server is seen at once.
const FAST: Duration = Duration::from_millis(10);
/// Pause once the task has been starting for [`FAST_FOR`].
const SLOW: Duration = Duration::from_millis(200);
/// How long to look fast.
const FAST_FOR: Duration = Duration::from_secs(10);

/// The ports of `wanted` that do not listen in the network namespace of `pid`; all, if it cannot be seen.
pub(crate) fn missing(pid: u32, wanted: &[u16]) -> Vec<u16> {
    let mut listening = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) {
            listening.extend(listening_ports(&text));
        }
    }
    wanted
        .iter()
        .copied()
        .filter(|port| !listening.contains(port))
        .collect()
}

/// The pause until the next look, for a task that has been waited for this long.
pub(crate) fn pause(waited: Duration) -> Duration {
    if waited < FAST_FOR { FAST } else { SLOW }
}

/// Local ports in LISTEN state of a `/proc/net/tcp` or `tcp6` table.
fn listening_ports(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        let (_, port) = local.rsplit_once(':')?;
        (state == LISTEN).then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
            \u{20}  0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
            \u{20}  1: 0100007F:0FA1 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n\
            \u{20}  2: 00000000000000000000000000000000:15B3 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0\n\
            garbage\n";
        assert_eq!(listening_ports(table).collect::<Vec<_>>(), [4000, 5555]);
        assert_eq!(listening_ports("").count(), 0);
    }

    #[test]
    fn an_own_listener_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        assert!(missing(std::process::id(), &[port]).is_empty());
        drop(listener);
        assert_eq!(missing(std::process::id(), &[port]), [port]);
    }
}
