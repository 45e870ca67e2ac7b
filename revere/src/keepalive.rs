//! How a connection on which nothing is said is watched, alike at both of its ends.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// A connection that is silent for so long is asked whether it is there, so often, and given up then.
const IDLE: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Has the kernel ask: a machine that is gone says nothing by itself.
pub(crate) fn keep_alive(tcp: &TcpStream) -> Result<(), rustix::io::Errno> {
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, PROBE)?;
    sockopt::set_tcp_keepcnt(tcp, PROBES)
}
