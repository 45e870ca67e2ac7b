//! One-byte words with open sockets between two processes of this node.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Sockets that one word may carry; the kernel's own limit is 253.
const MAX_SOCKETS: usize = 192;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Pipe(UnixStream);

/// A place that a [`Pipe`] can be opened to.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

/// What came: a word and sockets.
pub(super) type Message = (u8, Vec<OwnedFd>);

/// A connected pair: one end for this process, the other for a child's standard input.
pub(super) fn pair() -> io::Result<(Pipe, OwnedFd)> {
    let (ours, theirs) = StdStream::pair()?;
    Ok((Pipe::new(ours.into())?, theirs.into()))
}

/// The path of `name` in `dir`, through a descriptor of the directory: the kernel takes paths of 107 bytes at most.
fn short(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

impl Door {
    /// Opens it at `name` in `dir`, in the place of whatever was there.
    pub(super) fn open(dir: &Path, name: &str) -> io::Result<Self> {
        match std::fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let held = File::open(dir)?;
        let listener = StdListener::bind(short(&held, name))?;
        listener.set_nonblocking(true)?;
        Ok(Self(UnixListener::from_std(listener)?))
    }

    /// The next caller.
    pub(super) async fn next(&self) -> io::Result<Pipe> {
        Ok(Pipe(self.0.accept().await?.0))
    }
}

impl Pipe {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let stream = StdStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(stream)?))
    }

    /// Opens one to the door at `name` in `dir`; `None` if nobody is behind it.
    pub(super) fn call(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = File::open(dir).and_then(|held| StdStream::connect(short(&held, name)));
        match stream {
            Ok(stream) => Self::new(stream.into()).map(Some),
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a word; one that does not fit is an error, not a wait: the other end has nothing else to read.
    pub(super) fn send(&self, word: u8, sockets: &[OwnedFd]) -> io::Result<()> {
        if sockets.len() > MAX_SOCKETS {
            let why = format!("{} sockets are more than {MAX_SOCKETS}", sockets.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&[word])], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word; `None` when the other end is gone.
    pub(super) async fn receive(&self) -> io::Result<Option<Message>> {
        self.0.async_io(Interest::READABLE, || take(self.0.as_fd())).await
    }
}

fn take(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut word)];
    let got = match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "sockets were cut off"));
    }
    Ok((got.bytes > 0).then_some((word[0], sockets)))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn words_and_their_sockets_arrive() {
        let dir = tempfile::tempdir().expect("a directory");
        // Longer than an address may be.
        let deep = dir.path().join("d".repeat(120));
        assert!(Pipe::call(&deep, "door").expect("nobody is no error").is_none());
        std::fs::create_dir(&deep).expect("made");
        assert!(Pipe::call(&deep, "door").expect("nobody is no error").is_none());
        let door = Door::open(&deep, "door").expect("opened");
        let caller = Pipe::call(&deep, "door").expect("called").expect("somebody");
        let heard = door.next().await.expect("a caller");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let addr = socket.local_addr().expect("an address");
        heard.send(b'1', &[socket.into()]).expect("sent");
        heard.send(b'2', &[]).expect("sent");
        drop(heard);
        let (word, sockets) = caller.receive().await.expect("whole").expect("a word");
        let [socket] = <[OwnedFd; 1]>::try_from(sockets).expect("one");
        assert_eq!(word, b'1');
        assert_eq!(UdpSocket::from(socket).local_addr().expect("the same socket"), addr);
        let (word, sockets) = caller.receive().await.expect("whole").expect("a word");
        assert_eq!((word, sockets.len()), (b'2', 0));
        assert!(caller.receive().await.expect("an end").is_none());
        drop(door);
        assert!(Pipe::call(&deep, "door").expect("nobody is no error").is_none());
        Door::open(&deep, "door").expect("in the place of the old one");
    }

    #[tokio::test]
    async fn more_sockets_than_a_word_carries_are_refused() {
        let (pipe, held) = pair().expect("a pair");
        let many: Vec<OwnedFd> = (0..=MAX_SOCKETS).map(|_| held.try_clone().expect("one more")).collect();
        assert!(pipe.send(b'1', &many).is_err());
    }
}
