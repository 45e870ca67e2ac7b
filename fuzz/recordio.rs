//! RecordIO: however the bytes arrive, the same records come out, and the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revere::recordio::{Decoder, RecordError, encode};

/// Small, so that the limit is met often.
const LIMIT: usize = 64;

fn read(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, Result<(), RecordError>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut records = Vec::new();
    for piece in pieces {
        decoder.push(&piece);
        loop {
            match decoder.next_record() {
                Ok(Some(record)) => {
                    assert!(record.len() <= LIMIT);
                    records.push(record.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (records, Err(error)),
            }
        }
    }
    let end = decoder.finish();
    (records, end)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let size = usize::from(*first) % 9 + 1;
    let whole = read(std::iter::once(bytes.to_vec()));
    let pieces = read(bytes.chunks(size).map(<[u8]>::to_vec));
    assert_eq!(whole.0, pieces.0);
    // An error may tell of more bytes that had arrived, but it is one of the same kind.
    assert_eq!(
        whole.1.as_ref().err().map(std::mem::discriminant),
        pieces.1.as_ref().err().map(std::mem::discriminant)
    );
    // What was read, written again, reads the same.
    let again: Vec<u8> = whole.0.iter().flat_map(|record| encode(record)).collect();
    assert_eq!(read(std::iter::once(again)), (whole.0, Ok(())));
});
