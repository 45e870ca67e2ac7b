//! Clients: questions of many forms by a socket, and what dig and kdig print.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::lab::{NAMES, PLAIN, SERVER, message};

/// A client's cookie, as dig sends it.
pub(super) const COOKIE: &[u8] = &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// Ends a test whose answer never comes.
const DEADLINE: Duration = Duration::from_secs(20);

/// The answer to a message, whatever it is.
pub(super) fn says(server: ([u8; 4], u16), question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind(SocketAddr::from((server.0, 0))).expect("an address of this node");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    socket.connect(SocketAddr::from(server)).expect("connected");
    socket.send(question).expect("sent");
    let mut answer = [0; 4096];
    let len = socket.recv(&mut answer).ok()?;
    Some(answer[..len].to_vec())
}

/// What it is, and the message. Those whose words begin with a dash are for the server.
pub(super) fn questions() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in NAMES {
        for kind in [1, 28] {
            all.push((format!("{name} {kind}"), message(name, kind, None)));
            all.push((format!("{name} {kind} EDNS"), message(name, kind, PLAIN)));
        }
    }
    let one = NAMES[0];
    let with = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = message(one, 1, PLAIN);
        change(&mut bytes);
        (what.to_owned(), bytes)
    };
    let opt = message(one, 1, None).len();
    // A client's half has 8 bytes, a server's 8 to 32.
    for len in [0, 7, 8, 9, 15, 16, 40, 41] {
        let fits = matches!(len, 8 | 16 | 40);
        let option = [&[0, 10, 0, len][..], &vec![7; usize::from(len)]].concat();
        let dash = if fits { "" } else { "- " };
        all.push((format!("{dash}a cookie of {len}"), message(one, 1, Some(&option))));
    }
    all.extend([
        ("SRV".to_owned(), message("_web._tcp.one.mesos", 33, PLAIN)),
        ("SRV without EDNS".to_owned(), message("_web._tcp.one.mesos", 33, None)),
        ("letters".to_owned(), message("OnE.mEsOs", 1, PLAIN)),
        (
            "letters of a name without it".to_owned(),
            message("OnE.mEsOs", 28, PLAIN),
        ),
        ("a cookie".to_owned(), message(one, 1, Some(COOKIE))),
        with("no recursion", &|bytes| bytes[2] = 0),
        with("AD and CD", &|bytes| bytes[3] = 0x30),
        with("DO", &|bytes| bytes[opt + 7] = 0x80),
        with("a small client", &|bytes| bytes[opt + 3..opt + 5].fill(0)),
        with("a large client", &|bytes| bytes[opt + 3..opt + 5].fill(0xff)),
        with("- version 1", &|bytes| bytes[opt + 6] = 1),
        with("- another class", &|bytes| bytes[opt - 1] = 3),
        with("- a status question", &|bytes| bytes[2] = 0x10),
        with("- two questions", &|bytes| bytes[5] = 2),
        with("- more bytes", &|bytes| bytes.push(0)),
        ("- several addresses".to_owned(), message("two.mesos", 1, PLAIN)),
        (
            "several addresses, the other kind".to_owned(),
            message("two.mesos", 28, PLAIN),
        ),
        ("- no name".to_owned(), message("nobody.mesos", 1, PLAIN)),
        ("- an alias".to_owned(), message("alias.mesos", 1, PLAIN)),
        ("- SRV of a name without".to_owned(), message(one, 33, PLAIN)),
        ("- ANY".to_owned(), message(one, 255, PLAIN)),
        ("- SOA".to_owned(), message("mesos", 6, PLAIN)),
        (
            "- two cookies".to_owned(),
            message(one, 1, Some(&[COOKIE, COOKIE].concat())),
        ),
        ("- another option".to_owned(), message(one, 1, Some(&[0, 3, 0, 0]))),
        (
            "- many labels".to_owned(),
            message(&format!("{}mesos", "x.".repeat(30)), 1, PLAIN),
        ),
        (
            "- a long name".to_owned(),
            message(&format!("{}.{}.mesos", "l".repeat(50), "m".repeat(50)), 1, PLAIN),
        ),
    ]);
    all
}

/// What programs say of some names, without what differs from run to run.
pub(super) fn dig_texts() -> Vec<String> {
    let server = format!("@{}", SocketAddr::from(SERVER).ip());
    let once = |program| match program {
        "dig" => ["+tries=1", "+time=20", "+qid=7"],
        _ => ["+retry=0", "+timeout=20", "+noall"],
    };
    let mut all = Vec::new();
    for (program, more) in [
        ("dig", &[][..]),
        ("dig", &["+noedns"]),
        ("kdig", &["+all"]),
        ("kdig", &["+all", "+edns", "+dnssec"]),
    ] {
        for words in [
            ["one.mesos", "A"],
            ["ONE.mesos", "AAAA"],
            ["_web._tcp.one.mesos", "SRV"],
            ["v6.mesos", "AAAA"],
        ] {
            let output = Command::new(program)
                .arg(&server)
                .args(once(program))
                .args(more)
                .args(words)
                .output()
                .expect("dnsutils and knot-dnsutils are installed");
            let text = String::from_utf8(output.stdout).expect("plain text");
            assert!(
                output.status.success() && text.contains("NOERROR"),
                "{program} {words:?}: {text}"
            );
            const CHANGES: [&str; 6] = ["ime", "WHEN", "Received", "From", "COOKIE", "id:"];
            let stays = |line: &&str| !CHANGES.iter().any(|word| line.contains(word));
            all.push(text.lines().filter(stays).collect::<Vec<_>>().join("\n"));
        }
    }
    all
}
