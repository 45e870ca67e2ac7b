//! A connection made from inside a task's network namespace.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::Place;

/// Connects to an address as the task's own processes would.
pub(super) async fn connect(place: &Place, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match &place.netns {
        None => socket(to)?,
        Some(netns) => socket_inside(netns, to).await?,
    };
    socket.connect(to).await
}

fn socket(to: SocketAddr) -> io::Result<TcpSocket> {
    if to.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

/// A socket belongs to the namespace that its thread is in when it is made; a thread of its own goes there and ends.
async fn socket_inside(netns: &Path, to: SocketAddr) -> io::Result<TcpSocket> {
    let file = File::open(netns)?;
    let (sender, made) = oneshot::channel();
    let thread = std::thread::Builder::new().name("check-socket".to_owned());
    thread.spawn(move || {
        let inside = setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        // Nobody waits any more once the check's time is over.
        let _ = sender.send(inside.and_then(|()| socket(to)));
    })?;
    let gone = |_| io::Error::other("the thread that enters the task's network namespace ended");
    made.await.map_err(gone)?
}
