//! The operator API's protobuf: any bytes are a record or a refusal, and what was understood survives another round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revere::mesos::decode::decode_protobuf;
use revere::mesos::protobuf::{CALL, EVENT, RESPONSE, from_json, to_json};

fuzz_target!(|data: &[u8]| {
    let _ = decode_protobuf(data);
    for message in [&CALL, &EVENT, &RESPONSE] {
        let Ok(value) = to_json(message, data, &mut Vec::new()) else { continue };
        let written = from_json(message, &value);
        let mut rejects = Vec::new();
        let again = to_json(message, &written, &mut rejects).expect("what is written is read");
        assert!(rejects.is_empty(), "{rejects:?}");
        // Once more: words without a name are left out the first time, nothing after that.
        assert_eq!(from_json(message, &again), written);
    }
});
