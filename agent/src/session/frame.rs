//! What the daemon and a session's holder say to each other over the holder's stdin and stdout: kind, length, bytes.

use std::io;

/// Longest content of one frame.
pub(super) const LONGEST: usize = 64 * 1024;
/// A kind and a length.
const HEAD: usize = 5;

/// To the holder: what is to be run, first of all.
pub(super) const ASK: u8 = b'a';
/// To the holder: input. From it: standard output.
pub(super) const DATA: u8 = b'd';
/// To the holder: the input ends here.
pub(super) const END: u8 = b'e';
/// To the holder: the size of the window.
pub(super) const SIZE: u8 = b's';
/// From the holder: it runs.
pub(super) const RUNS: u8 = b'r';
/// From the holder: why it does not run.
pub(super) const FAILED: u8 = b'f';
/// From the holder: standard error.
pub(super) const ERROR: u8 = b'x';
/// From the holder: how it ended, and that nothing of it is left.
pub(super) const OVER: u8 = b'o';

/// One frame as bytes; the content is no longer than [`LONGEST`].
pub(super) fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + content.len());
    bytes.push(kind);
    bytes.extend(length.to_le_bytes());
    bytes.extend(content);
    bytes
}

/// Bytes that come in any pieces, and frames out of them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) buffer: Vec<u8>,
}

impl Frames {
    /// The next whole frame, if it is there.
    pub(super) fn next(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let Some((&[kind, a, b, c, d], rest)) = self.buffer.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {length} bytes"),
            ));
        }
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        let content = content.to_vec();
        self.buffer.drain(..HEAD + length);
        Ok(Some((kind, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_out_of_any_pieces() {
        let sent = [frame(DATA, b"hello"), frame(END, b""), frame(DATA, &[7; LONGEST])].concat();
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for piece in sent.chunks(7) {
            frames.buffer.extend(piece);
            while let Some((kind, content)) = frames.next().expect("good frames") {
                found.push((kind, content.len()));
            }
        }
        assert_eq!(found, [(DATA, 5), (END, 0), (DATA, LONGEST)]);
        frames.buffer = [&[DATA][..], &u32::MAX.to_le_bytes()].concat();
        assert!(frames.next().is_err(), "longer than any is");
    }
}
