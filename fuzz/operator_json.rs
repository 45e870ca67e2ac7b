//! The operator API's JSON: any bytes are a record or a refusal, and what is told of rejects stays short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revere::mesos::decode::{Message, decode};

fuzz_target!(|data: &[u8]| {
    let Ok(decoded) = decode(data) else { return };
    assert!(decoded.rejects.iter().all(|reject| reject.what.chars().count() <= 200));
    if let Message::Subscribed(_, heartbeat) = &decoded.message {
        assert!(!heartbeat.is_zero());
    }
    assert_eq!(decode(data).ok(), Some(decoded));
});
