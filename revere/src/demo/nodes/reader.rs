//! The stream of one simulated node: asks as a daemon does, comes back to where it was as a daemon does, but unpacks and
//! decodes only what no other reader of this process has been told before it.
//!
//! Ten thousand readers of a thousand changes a second would decode ten million; on nodes each has a machine of its own.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::micros;
use super::seen::Seen;
use crate::mesos::encode::POSITION_HEADER;
use crate::mesos::pack;

/// Before the next try after a stream that ended or did not begin.
const PAUSE: Duration = Duration::from_millis(200);
/// Room to read an answer's head into.
const ROOM: usize = 8 * 1024;
/// Most that is read at once of what follows: more than the changes of half a second.
const PART: usize = 256 * 1024;
/// Longest head of an answer, and longest line before a chunk.
const MOST_HEAD: usize = 16 * 1024;

thread_local! {
    /// All readers of a thread read into the same place, and keep only what is not whole yet: with a place for each,
    /// ten thousand would drive each other out of the processor's cache.
    static ROOM_FOR_ALL: RefCell<Vec<u8>> = RefCell::new(vec![0; PART]);
}

/// See the module.
pub(super) struct Reader {
    masters: Vec<String>,
    turn: usize,
    position: Arc<str>,
    seen: Arc<Seen>,
    changes: u64,
    /// What has arrived of something that is not whole.
    buffer: BytesMut,
    begins: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(super) fn new(masters: Vec<String>, turn: usize, seen: Arc<Seen>) -> Self {
        Self {
            masters,
            turn,
            position: Arc::from(""),
            seen,
            changes: 0,
            buffer: BytesMut::new(),
            begins: None,
        }
    }

    /// Follows for ever; `begins` is given back with the first record.
    pub(super) async fn run(mut self, begins: OwnedSemaphorePermit) {
        self.begins = Some(begins);
        loop {
            if let Err(error) = self.follow().await {
                tracing::warn!("a simulated node's stream: {error:#}");
            }
            self.seen.again();
            self.turn = self.turn.wrapping_add(1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> anyhow::Result<()> {
        let master = self
            .masters
            .get(self.turn % self.masters.len())
            .context("no master")?
            .clone();
        let host = master.strip_prefix("http://").context("write http://address:port")?;
        let mut tcp = TcpStream::connect(host).await?;
        tcp.set_nodelay(true)?;
        let body = r#"{"type":"SUBSCRIBE"}"#;
        let request = format!(
            "POST /api/v1 HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Accept-Encoding: {}\r\n{POSITION_HEADER}: {}\r\nContent-Length: {}\r\n\r\n{body}",
            pack::CODING,
            self.position,
            body.len()
        );
        tcp.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = self.until(&mut tcp, b"\r\n\r\n").await?.to_ascii_lowercase();
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("http/1.1 200") || !head.contains(&format!("content-encoding: {}", pack::CODING)) {
            bail!("{host} answers {head}");
        }
        let came_with_it = std::mem::take(&mut self.buffer);
        self.take(&came_with_it)?;
        loop {
            tcp.readable().await?;
            let read = ROOM_FOR_ALL.with_borrow_mut(|room| {
                let length = tcp.try_read(room)?;
                let arrived = room.get(..length).unwrap_or_default();
                std::io::Result::Ok((length, self.take(arrived)))
            });
            match read {
                Ok((0, _)) => bail!("the master closed the stream"),
                Ok((length, taken)) => {
                    self.seen.read(length);
                    taken?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes what has arrived, as far as it is whole.
    fn take(&mut self, arrived: &[u8]) -> anyhow::Result<()> {
        if self.buffer.is_empty() {
            let taken = self.chunks(arrived)?;
            self.buffer.extend_from_slice(arrived.get(taken..).unwrap_or_default());
            return Ok(());
        }
        self.buffer.extend_from_slice(arrived);
        let mut buffer = std::mem::take(&mut self.buffer);
        let taken = self.chunks(&buffer)?;
        if taken < buffer.len() {
            buffer.advance(taken);
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Takes all chunks that are whole; how many bytes they have.
    fn chunks(&mut self, arrived: &[u8]) -> anyhow::Result<usize> {
        let (mut taken, now) = (0, micros());
        while let Some((piece, length)) = chunk(arrived.get(taken..).unwrap_or_default())? {
            taken += length;
            let told = self.seen.chunk(piece, now)?;
            if told.begins {
                self.begins.take();
            }
            if let Some(position) = &told.position {
                self.position = Arc::clone(position);
            }
            let before = self.changes;
            self.changes += told.changes;
            self.seen.has(before, self.changes);
        }
        Ok(taken)
    }

    /// What stands before `end`, which is taken as well.
    async fn until(&mut self, tcp: &mut TcpStream, end: &[u8]) -> anyhow::Result<BytesMut> {
        loop {
            let found = self.buffer.windows(end.len()).position(|bytes| bytes == end);
            if let Some(at) = found {
                let line = self.buffer.split_to(at);
                self.buffer.advance(end.len());
                return Ok(line);
            }
            if self.buffer.len() > MOST_HEAD {
                bail!("no line ends where one should");
            }
            self.read(tcp).await?;
        }
    }

    async fn read(&mut self, tcp: &mut TcpStream) -> anyhow::Result<()> {
        self.buffer.reserve(ROOM);
        let length = tcp.read_buf(&mut self.buffer).await?;
        self.seen.read(length);
        if length == 0 {
            bail!("the master closed the stream");
        }
        Ok(())
    }
}

/// The first chunk of a chunked body, and how many bytes it has with what is around it; nothing while it is not whole.
fn chunk(bytes: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    /// Longest line before a chunk.
    const LINE: usize = 32;
    let Some(line) = bytes.windows(2).take(LINE).position(|pair| pair == b"\r\n") else {
        if bytes.len() > LINE {
            bail!("no line ends where one should");
        }
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(line + 2);
    let length = usize::from_str_radix(std::str::from_utf8(head)?.trim(), 16)?;
    if length == 0 {
        // The connection stays, for other requests.
        bail!("the master ended the stream");
    }
    if rest.len() < length + 2 {
        return Ok(None);
    }
    Ok(rest.get(..length).map(|piece| (piece, head.len() + length + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::encode;
    use crate::recordio;

    #[test]
    fn pieces_are_taken_once_however_they_arrive() {
        let piece = |number: u64| {
            let mut status = crate::demo::cluster::agent::status(model::TaskState::Running, 1);
            status.message = Some(format!("n={number} t=1"));
            let told = encode::task_updated("f", "t", Some("a"), &status).to_string();
            let piece = pack::pack(&recordio::encode(told.as_bytes()));
            [format!("{:X}\r\n", piece.len()).as_bytes(), &piece[..], b"\r\n"].concat()
        };
        let stream: Vec<u8> = (0..20).flat_map(piece).collect();
        for cut in [1, 7, 150, stream.len()] {
            let seen = Arc::new(Seen::new(20));
            let mut reader = Reader::new(Vec::new(), 0, Arc::clone(&seen));
            for arrived in stream.chunks(cut) {
                reader.take(arrived).expect("readable");
            }
            assert_eq!((reader.changes, reader.buffer.len()), (20, 0), "{cut}");
            let told = seen.told();
            let rows = told["changes"].as_array().expect("rows");
            assert!(rows.len() == 20 && rows.iter().all(|row| row[3] == 1), "{cut}: {told}");
        }
        assert!(chunk(b"0\r\n\r\n").is_err(), "an end is taken for silence");
        assert!(chunk(b"no chunk at all, and no line that would end where one should").is_err());
    }
}
