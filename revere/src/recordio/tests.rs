//! Tests of the RecordIO framing: any split, garbage, limits, ends in the middle.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 16;

fn drain(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, RecordError> {
    let mut out = Vec::new();
    while let Some(record) = decoder.next_record()? {
        out.push(record.to_vec());
    }
    Ok(out)
}

fn whole(bytes: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(bytes);
    let records = drain(&mut decoder)?;
    decoder.finish()?;
    Ok(records)
}

proptest! {
    #[test]
    fn records_survive_any_split(records in vec(vec(any::<u8>(), 0..200), 0..8), cuts in vec(1usize..40, 0..200)) {
        let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
        let mut decoder = Decoder::new(LIMIT);
        let mut got = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            decoder.push(head);
            got.extend(drain(&mut decoder).expect("well formed"));
            rest = tail;
        }
        decoder.push(rest);
        got.extend(drain(&mut decoder).expect("well formed"));
        prop_assert_eq!(got, records);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_cut_stream_is_told(records in vec(vec(any::<u8>(), 0..50), 1..4), missing in 1usize..20) {
        let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
        let last = encode(records.last().expect("one at least")).len();
        // Cut inside the last record only: a cut between two records is a proper end.
        let missing = missing.min(last - 1);
        let result = whole(&stream[..stream.len() - missing]);
        prop_assert!(matches!(result, Err(RecordError::Truncated { .. })), "{:?}", result);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = whole(&bytes);
    }
}

#[test]
fn garbage_names_the_record() {
    assert_eq!(
        whole(b"2\n{}<html>"),
        Err(RecordError::Garbage {
            record: 1,
            found: "<html>".into()
        })
    );
    for bad in ["\n", "12x\n", " 1\na", "-1\na", "+1\na", "000000000000000000000\n"] {
        let result = whole(bad.as_bytes());
        assert!(
            matches!(result, Err(RecordError::Garbage { .. })),
            "{bad:?}: {result:?}"
        );
    }
}

#[test]
fn over_the_limit_is_refused_before_its_bytes_arrive() {
    let refused = Err(RecordError::TooLong {
        record: 0,
        limit: LIMIT,
    });
    assert_eq!(whole(b"65537\n"), refused);
    assert_eq!(whole(b"99999999999999999999\n"), refused);
    assert_eq!(whole(&encode(&[b'x'; LIMIT])).map(|records| records.len()), Ok(1));
}
