//! Streams packed once for all their readers (RFC 1950), and unpacked.
//!
//! A packed stream is a head and any number of pieces. No piece refers to what came before it and each ends at a whole byte,
//! so that any reader's pieces in a row are one stream whose end never comes: what many readers are told is packed once.

use bytes::{Buf as _, Bytes};
use flate2::{Compress, Compression, Decompress, DecompressError, FlushCompress, FlushDecompress, Status};

/// The name in `Accept-Encoding` and `Content-Encoding`.
pub const CODING: &str = "deflate";

/// How a packed stream begins: deflate with a window of 32 KiB, no dictionary.
pub const HEAD: [u8; 2] = [0x78, 0x9c];

/// Longer pieces are whole states, which are packed with less care: what that takes a reader waits for.
const LONG: usize = 256 * 1024;

/// Most bytes that are unpacked at once: what was packed to next to nothing must not fill the memory.
const PART: usize = 64 * 1024;

/// Room for a piece that hardly shrinks.
const ROOM: usize = 256;

/// One piece.
pub fn pack(bytes: &[u8]) -> Bytes {
    let level = match bytes.len() < LONG {
        true => Compression::default(),
        false => Compression::fast(),
    };
    let mut deflate = Compress::new(level, false);
    let mut packed = Vec::with_capacity(bytes.len() / 4 + ROOM);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(bytes.len());
        let rest = bytes.get(taken..).unwrap_or_default();
        // Nothing fails that is not told to go on after its end.
        let told = deflate.compress_vec(rest, &mut packed, FlushCompress::Sync);
        debug_assert!(told.is_ok(), "{told:?}");
        let all = usize::try_from(deflate.total_in()).is_ok_and(|taken| taken == bytes.len());
        if told.is_err() || all && packed.len() < packed.capacity() {
            return packed.into();
        }
        packed.reserve(packed.len().max(ROOM));
    }
}

/// Why a packed stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Other bytes than the format allows.
    #[error("the packed stream is damaged: {0}")]
    Damaged(#[from] DecompressError),
    /// It says that nothing follows.
    #[error("the packed stream has ended while its connection goes on")]
    Ended,
}

/// What takes the bytes of a stream as they come.
#[derive(Debug)]
pub enum Unpacker {
    /// They are as they should be.
    Plain,
    /// They are packed.
    Packed(Box<Decompress>),
}

impl Unpacker {
    /// For a packed stream.
    pub fn packed() -> Self {
        Self::Packed(Box::new(Decompress::new(true)))
    }

    /// Takes some of what has arrived and gives what it means; nothing once all is taken.
    pub fn part(&mut self, arrived: &mut Bytes) -> Result<Bytes, UnpackError> {
        let Self::Packed(inflate) = self else {
            return Ok(std::mem::take(arrived));
        };
        let mut part = Vec::with_capacity(PART);
        let before = inflate.total_in();
        if inflate.decompress_vec(arrived, &mut part, FlushDecompress::Sync)? == Status::StreamEnd {
            return Err(UnpackError::Ended);
        }
        arrived.advance(usize::try_from(inflate.total_in() - before).unwrap_or(arrived.len()));
        Ok(part.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpack(stream: &[u8], cut: usize) -> Result<Vec<u8>, UnpackError> {
        let (mut unpacker, mut all) = (Unpacker::packed(), Vec::new());
        for arrived in stream.chunks(cut) {
            let mut arrived = Bytes::copy_from_slice(arrived);
            loop {
                let part = unpacker.part(&mut arrived)?;
                assert!(part.len() <= PART);
                if part.is_empty() {
                    break;
                }
                all.extend_from_slice(&part);
            }
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn pieces_are_told_whole_as_they_come(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..5),
            cut in 1usize..3000,
        ) {
            let mut stream = HEAD.to_vec();
            let mut wanted: Vec<u8> = Vec::new();
            for piece in &pieces {
                stream.extend(pack(piece));
                wanted.extend(piece);
                // Nothing waits for the next piece.
                prop_assert_eq!(&unpack(&stream, cut).expect("readable"), &wanted);
            }
            // Who comes later reads the same pieces from its own head on.
            let later: Vec<u8> = HEAD.into_iter().chain(pack(&pieces[pieces.len() - 1])).collect();
            prop_assert_eq!(&unpack(&later, cut).expect("readable"), &pieces[pieces.len() - 1]);
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), cut in 1usize..100) {
            let _ = unpack(&bytes, cut);
            let _ = unpack(&[&HEAD[..], &bytes].concat(), cut);
        }
    }

    #[test]
    fn long_pieces_shrink_and_come_in_parts() {
        let long = b"{\"task_id\":{\"value\":\"x\"}}\n".repeat(100_000);
        let packed = pack(&long);
        assert!(packed.len() < long.len() / 50, "{}", packed.len());
        let stream: Vec<u8> = HEAD.into_iter().chain(packed).collect();
        assert_eq!(unpack(&stream, stream.len()).expect("readable"), long);
        let mut ended = stream.clone();
        ended.extend([0x03, 0x00, 0, 0, 0, 0]);
        assert!(unpack(&ended, 7).is_err(), "an end is none of ours");
    }
}
