//! Replies with what belongs there, and with what does not.

use hickory_proto::op::{MessageType, OpCode, Query};
use hickory_proto::rr::rdata::NULL;

use super::*;
use crate::forward::fixture::{a, absent, addresses, cname, name, ns, reply};
use crate::forward::question::Asked;

fn question(text: &str, rtype: RecordType) -> (Key, Message) {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(text), rtype));
    (Asked::new(name(text), rtype).key(), message)
}

/// Everything may be told about but names below `other.`.
fn judged(key: &Key, message: Message) -> Judged {
    judge(key, message, &|name| {
        !Name::from_ascii("other.").is_ok_and(|zone| zone.zone_of(name))
    })
}

fn shown(reply: &Reply) -> Vec<String> {
    reply
        .answers
        .iter()
        .map(|record| format!("{} {}", record.name, record.data))
        .collect()
}

#[test]
fn records_of_other_names_are_dropped_from_every_section() {
    let (key, question) = question("www.example.com.", RecordType::A);
    let mut message = addresses(&question, 300, &["192.0.2.1", "192.0.2.2"]);
    message.answers.push(a(&name("www.bank.example."), 300, "6.6.6.6"));
    message.answers.push(cname("example.com.", 300, "www.bank.example."));
    message.authorities.push(ns("example.com.", "ns.evil."));
    message.additionals.push(a(&name("ns.evil."), 300, "6.6.6.6"));
    message.additionals.push(a(&name("leader.mesos."), 300, "6.6.6.6"));
    let judged = judged(&key, message);
    assert_eq!(judged.dropped, 2);
    let reply = judged.verdict.expect("good");
    assert_eq!(
        shown(&reply),
        ["www.example.com. 192.0.2.1", "www.example.com. 192.0.2.2"]
    );
    assert!(reply.authorities.is_empty());
    assert_eq!(reply.ttl, Some(300));
}

#[test]
fn chains_are_followed_in_their_order_and_to_their_end() {
    let (key, question) = question("www.example.com.", RecordType::A);
    let mut message = reply(&question, ResponseCode::NoError);
    message.answers = vec![
        a(&name("c.example.net."), 40, "192.0.2.1"),
        cname("B.example.com.", 20, "C.example.NET."),
        cname("WWW.example.com.", 30, "b.example.com."),
    ];
    let whole = judged(&key, message.clone()).verdict.expect("good");
    let wanted = [
        "www.example.com. b.example.com.",
        "b.example.com. c.example.net.",
        "c.example.net. 192.0.2.1",
    ];
    assert_eq!(shown(&whole), wanted);
    assert_eq!(whole.ttl, Some(20), "the shortest of the chain");
    // Into a zone that these servers may not tell about: the chain counts, the address does not.
    message.answers[1] = cname("b.example.com.", 20, "www.other.");
    message.answers[0] = a(&name("www.other."), 40, "6.6.6.6");
    let cut = judged(&key, message.clone());
    assert_eq!(cut.dropped, 1);
    let cut = cut.verdict.expect("good");
    assert_eq!(cut.rest, Some(name("www.other.")));
    assert_eq!(cut.answers.len(), 2);
    // Round in circles.
    message.answers[1] = cname("b.example.com.", 20, "www.example.com.");
    assert_eq!(judged(&key, message).verdict, Err(Poor::Lame));
}

#[test]
fn a_chain_to_nothing_is_negative_for_its_end() {
    let (key, question) = question("www.example.com.", RecordType::A);
    let mut message = absent(&question, ResponseCode::NXDomain, "example.net.", 600, 60);
    message.answers = vec![cname("www.example.com.", 20, "gone.example.net.")];
    let reply = judged(&key, message.clone()).verdict.expect("good");
    assert_eq!(reply.code, ResponseCode::NXDomain);
    assert_eq!(
        (reply.answers.len(), reply.authorities.len(), reply.ttl),
        (1, 1, Some(20))
    );
    // With the SOA of somebody else it says nothing that may be kept.
    message.authorities[0].name = name("example.org.");
    let reply = judged(&key, message).verdict.expect("good");
    assert_eq!((reply.authorities.len(), reply.ttl), (0, None));
}

#[test]
fn an_alias_without_what_it_stands_for_is_to_be_asked_on() {
    let (key, question) = question("www.example.com.", RecordType::A);
    let mut message = reply(&question, ResponseCode::NoError);
    message.answers = vec![cname("www.example.com.", 20, "www.example.net.")];
    message.authorities.push(ns("example.com.", "ns.example.com."));
    let reply = judged(&key, message).verdict.expect("good");
    assert_eq!((reply.answers.len(), reply.rest), (1, Some(name("www.example.net."))));
}

#[test]
fn negative_replies_are_kept_as_long_as_their_soa_says() {
    let (key, question) = question("www.example.com.", RecordType::AAAA);
    for (code, ttl, minimum, wanted) in [
        (ResponseCode::NXDomain, 600, 60, 60),
        (ResponseCode::NoError, 30, 3600, 30),
        (ResponseCode::NXDomain, 86_400, 86_400, 900),
        (ResponseCode::NXDomain, u32::MAX, 60, 0),
    ] {
        let reply = judged(&key, absent(&question, code, "example.com.", ttl, minimum))
            .verdict
            .expect("good");
        assert_eq!((reply.code, reply.ttl), (code, Some(wanted)));
        assert_eq!(reply.authorities[0].ttl, wanted);
    }
    let bare = reply(&question, ResponseCode::NoError);
    assert_eq!(judged(&key, bare.clone()).verdict, Err(Poor::Bare));
    let mut lame = bare.clone();
    lame.authorities.push(ns("com.", "a.gtld-servers.net."));
    assert_eq!(judged(&key, lame).verdict, Err(Poor::Lame));
    let bare = judged(&key, reply(&question, ResponseCode::NXDomain))
        .verdict
        .expect("a word is a word");
    assert_eq!(bare.ttl, None);
    let mut both = addresses(&question, 60, &[]);
    both.metadata.response_code = ResponseCode::NXDomain;
    both.answers.push(Record::from_rdata(
        name("www.example.com."),
        60,
        RData::AAAA(hickory_proto::rr::rdata::AAAA(
            "2001:db8::1".parse().expect("an address"),
        )),
    ));
    assert_eq!(
        judged(&key, both).verdict,
        Err(Poor::Lame),
        "records of a name that does not exist"
    );
}

#[test]
fn errors_are_poor_and_want_of_edns_is_told_apart() {
    let (key, question) = question("www.example.com.", RecordType::A);
    for (code, edns) in [
        (ResponseCode::ServFail, false),
        (ResponseCode::Refused, false),
        (ResponseCode::FormErr, true),
        (ResponseCode::NotImp, true),
    ] {
        assert_eq!(judged(&key, reply(&question, code)).verdict, Err(Poor::Error(edns)));
    }
    assert!(Poor::Bare > Poor::Lame && Poor::Lame > Poor::Error(true));
}

#[test]
fn times_are_bounded() {
    let (key, question) = question("www.example.com.", RecordType::A);
    for (ttl, wanted) in [(0, 0), (604_800, 86_400), (1 << 31, 0), (u32::MAX, 0), (59, 59)] {
        let reply = judged(&key, addresses(&question, ttl, &["192.0.2.1"]))
            .verdict
            .expect("good");
        assert_eq!(reply.ttl, Some(wanted), "{ttl}");
        assert_eq!(reply.answers[0].ttl, wanted);
    }
}

#[test]
fn signatures_come_along_only_for_whom_wants_them() {
    let (mut key, question) = question("www.example.com.", RecordType::A);
    let rrsig = |owner: &str, covered: u16| {
        let rdata = NULL::with([&covered.to_be_bytes()[..], &[0; 20]].concat());
        let code = RecordType::RRSIG;
        Record::from_rdata(name(owner), 60, RData::Unknown { code, rdata })
    };
    let mut message = addresses(&question, 300, &["192.0.2.1"]);
    message.answers.push(rrsig("www.example.com.", 1));
    message.answers.push(rrsig("www.example.com.", 28));
    message.answers.push(rrsig("www.example.net.", 1));
    assert_eq!(judged(&key, message.clone()).verdict.expect("good").answers.len(), 1);
    key.signatures = true;
    let judged = judged(&key, message);
    assert_eq!(judged.dropped, 2);
    assert_eq!(judged.verdict.expect("good").answers.len(), 2);
}
