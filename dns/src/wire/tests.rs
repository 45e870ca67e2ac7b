//! What counts as a plain question, byte by byte.

use hickory_proto::rr::RecordType;

use super::*;
use crate::fixture::question;

fn bytes(payload: Option<u16>) -> Vec<u8> {
    question("a.Bc.mesos.", RecordType::A, payload)
        .to_vec()
        .expect("encodes")
}

#[test]
fn ordinary_questions_are_plain() {
    for payload in [None, Some(1232)] {
        let message = bytes(payload);
        let Screened::Plain(plain) = screen(&message) else {
            panic!("{payload:?}")
        };
        assert_eq!(plain.name, b"\x01a\x02Bc\x05mesos\x00");
        assert_eq!(plain.question(), b"\x01a\x02Bc\x05mesos\x00\x00\x01\x00\x01");
        assert_eq!((plain.rtype, plain.edns.map(|edns| edns.payload)), (1, payload));
    }
}

/// Each change of one plain question, and what becomes of it.
#[test]
fn one_change_makes_the_difference() {
    type Change = fn(&mut Vec<u8>);
    let other = Screened::Other;
    let form = Screened::Header(Code::FormErr);
    let cases: [(&str, Change, Screened<'_>); 21] = [
        ("short", |m| m.truncate(11), Screened::Ignore),
        ("an answer", |m| m[2] |= 0x80, Screened::Ignore),
        ("opcode 1", |m| m[2] |= 0x08, Screened::Header(Code::NotImp)),
        ("opcode 15", |m| m[2] |= 0x78, Screened::Header(Code::NotImp)),
        ("AA", |m| m[2] |= 0x04, other),
        ("TC", |m| m[2] |= 0x02, other),
        ("Z", |m| m[3] |= 0x40, other),
        ("rcode", |m| m[3] |= 1, other),
        ("no question", |m| m[5] = 0, form),
        ("two questions", |m| m[5] = 2, form),
        ("an answer record", |m| m[7] = 1, other),
        ("an authority record", |m| m[9] = 1, other),
        ("two additionals", |m| m[11] = 2, other),
        ("class CH", |m| m[27] = 3, other),
        ("AXFR", |m| m[25] = 252, other),
        ("a pointer", |m| m[12] = 0xc0, other),
        ("a byte more", |m| m.push(0), other),
        ("a byte less", |m| m.truncate(m.len() - 1), other),
        ("EDNS version 1", |m| m[34] = 1, other),
        ("EDNS flags", |m| m[35] = 1, other),
        ("too long", |m| m.resize(MAX_MESSAGE + 1, 0), form),
    ];
    for (what, change, wanted) in cases {
        let mut message = bytes(Some(1232));
        change(&mut message);
        assert_eq!(screen(&message), wanted, "{what}");
    }
}

#[test]
fn cookies_are_plain_and_other_options_are_not() {
    let with = |options: &[u8]| {
        let mut message = bytes(Some(1232));
        let length = u8::try_from(options.len()).expect("short");
        *message.last_mut().expect("not empty") = length;
        message.extend_from_slice(options);
        matches!(screen(&message), Screened::Plain(_))
    };
    let option = |code: u8, length: u8| [vec![0, code, 0, length], vec![7; usize::from(length)]].concat();
    for (length, plain) in [(7, false), (8, true), (9, false), (16, true), (40, true), (41, false)] {
        assert_eq!(with(&option(10, length)), plain, "{length}");
    }
    assert!(!with(&option(8, 8)) && !with(&[0, 10, 0, 9, 1]) && !with(&[0]));
    assert!(!with(&[option(10, 8), option(10, 8)].concat()));
}

#[test]
fn names_have_their_limits() {
    let label = |length: u8| [vec![length], vec![b'x'; usize::from(length)]].concat();
    let name = |labels: &[u8]| [labels.iter().flat_map(|length| label(*length)).collect(), vec![0]].concat();
    assert_eq!(name_len(&[0]), Some(1));
    assert_eq!(name_len(&name(&[63, 63, 63, 61])), Some(255));
    assert_eq!(name_len(&name(&[63, 63, 63, 62])), None);
    assert_eq!(name_len(&name(&[64])), None);
    assert_eq!(name_len(&name(&[3])[..4]), None);
    assert_eq!(name_len(&[]), None);
}

#[test]
fn short_answers_are_never_longer_than_questions() {
    for payload in [None, Some(4096)] {
        let message = bytes(payload);
        let Screened::Plain(plain) = screen(&message) else {
            panic!("plain")
        };
        let mut out = Vec::new();
        truncated(&plain, &mut out);
        assert!(out.len() <= message.len());
        assert_eq!(out[..2], message[..2]);
        assert_eq!(out[2] & 0x82, 0x82);
    }
}
