//! Names answered in XDP: to the byte what the server says, or nothing; packets of any bytes, real programs, restarts.

mod ask;
mod lab;

use lb_userspace::names::{Count, NameMap, silence};

use ask::{dig_texts, questions, says};
use lab::{Lab, NAMES, PLAIN, SERVER, frame, frame_from, message};

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Where a UDP packet's payload begins.
const PAYLOAD: usize = 42;

#[test]
fn the_verifier_takes_the_program_that_answers_names() {
    let lab = Lab::new();
    let verified = lab.map.verified_instructions().expect("the kernel tells");
    println!("fact: program revere_names: {verified} verified instructions");
    assert!(verified > 0 && verified < 25_000, "{verified}");
}

#[test]
fn sockets_get_the_same_bytes_with_and_without_it() {
    let mut lab = Lab::new();
    let mut answered = 0;
    for (what, question) in questions() {
        lab.quiet();
        let theirs = says(SERVER, &question);
        lab.speak();
        let counts = |lab: &Lab| [Count::Answered, Count::NoData].map(|what| lab.count(&[what]));
        let before = counts(&lab);
        let ours = says(SERVER, &question);
        let after = counts(&lab);
        let [records, none] = [0, 1].map(|at| after[at] - before[at]);
        let early = records + none;
        // Several addresses take turns, by each of the server's threads.
        let turns = what == "- several addresses";
        assert!(ours == theirs || turns, "{what}: {ours:02x?} and {theirs:02x?}");
        assert!(ours.is_some(), "{what}: no answer");
        assert_eq!(early, u64::from(!what.starts_with('-')), "{what}");
        // The number of records in the answer section.
        let has_records = ours.is_some_and(|said| said[6..8] != [0, 0]);
        assert!(early == 0 || (records == 1) == has_records, "{what}: {records} {none}");
        answered += early;
    }
    assert!(answered > 20, "{answered}");
}

#[test]
fn programs_print_the_same_with_and_without_it() {
    let mut lab = Lab::new();
    let before = lab.count(&[Count::Answered, Count::NoData]);
    let ours = dig_texts();
    assert_eq!(
        lab.count(&[Count::Answered, Count::NoData]) - before,
        u64::try_from(ours.len()).expect("few"),
        "each was answered here"
    );
    lab.quiet();
    assert_eq!(ours, dig_texts());
}

#[test]
fn every_truncation_and_lie_goes_to_the_server_unchanged() {
    let lab = Lab::new();
    for question in [
        message(NAMES[0], 1, None),
        message(NAMES[0], 1, Some(&[])),
        message(NAMES[0], 28, Some(ask::COOKIE)),
    ] {
        let whole = frame(&question);
        assert_eq!(lab.run(&whole).action, XDP_TX);
        for len in 14..whole.len() {
            // Cut off on the way, then with headers that say so: that is another message, and none is a plain question.
            for cut in [whole[..len].to_vec(), frame(&question[..len.saturating_sub(PAYLOAD)])] {
                let run = lab.run(&cut);
                assert_eq!(
                    (run.action, &run.frame),
                    (XDP_PASS, &cut),
                    "{len} of {} bytes",
                    whole.len()
                );
            }
        }
        let padded = [&whole[..], &[0; 6]].concat();
        assert_eq!(lab.run(&padded).action, XDP_PASS, "a frame longer than its packet");
        for at in 12..whole.len() {
            for value in [0, 1, 2, 0x0c, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff] {
                let mut frame = whole.clone();
                frame[at] = value;
                let run = lab.run(&frame);
                match run.action {
                    XDP_PASS => assert_eq!(run.frame, frame, "{at} = {value}"),
                    XDP_TX => {
                        assert!(value == whole[at] || is_free(at, value), "{at} = {value}");
                        lab.same_as_server(&frame, &run.frame);
                    }
                    other => panic!("{other} at {at} = {value}"),
                }
            }
        }
    }
}

/// Whether a frame may be a plain question still when this byte of it is changed: what it is, where to, how long and whether whole
/// may not change; what the message says is compared with the server.
fn is_free(at: usize, value: u8) -> bool {
    match at {
        // Type of service, number, time to live, sums, the client's address and port.
        15 | 18 | 19 | 22 | 24..=29 | 34 | 35 | 40 | 41 => true,
        // Flags of fragments, beside "don't".
        20 => value & 0x3f == 0,
        _ => at >= PAYLOAD,
    }
}

#[test]
fn pieces_and_questions_from_no_port_are_the_servers() {
    let lab = Lab::new();
    let whole = frame(&message(NAMES[0], 1, None));
    for (at, bytes) in [(20, [0x20, 0]), (20, [0, 1]), (20, [0x3f, 0xff]), (34, [0, 0])] {
        let mut frame = whole.clone();
        frame[at..at + 2].copy_from_slice(&bytes);
        let run = lab.run(&frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame), "{bytes:?} at {at}");
    }
}

#[test]
fn messages_of_any_bytes_are_left_alone_or_answered_as_the_server_does() {
    let lab = Lab::new();
    let (seed, mut state) = lab::seed();
    println!("seed {seed}");
    let mut answered = 0;
    for _ in 0..40_000 {
        let mut question = message(
            NAMES[lab::roll(&mut state, NAMES.len())],
            [1, 28, 33][lab::roll(&mut state, 3)],
            PLAIN,
        );
        for _ in 0..lab::roll(&mut state, 3) {
            let at = lab::roll(&mut state, question.len());
            question[at] = u8::try_from(lab::roll(&mut state, 256)).expect("a byte");
        }
        question.truncate(question.len() - lab::roll(&mut state, 20).saturating_sub(14));
        let asked = frame(&question);
        let run = lab.run(&asked);
        if run.action == XDP_TX {
            lab.same_as_server(&asked, &run.frame);
            answered += 1;
        } else {
            assert_eq!(
                (run.action, &run.frame),
                (XDP_PASS, &asked),
                "seed {seed}: {question:02x?}"
            );
        }
    }
    assert!(answered > 1_000, "{answered}");
}

#[test]
fn only_clients_that_nothing_holds_up_are_answered() {
    let lab = Lab::new();
    let question = message(NAMES[0], 1, None);
    for (client, action) in [
        ([198, 51, 100, 1], XDP_TX),
        ([127, 0, 0, 1], XDP_TX),
        ([9, 1, 2, 3], XDP_TX),
        ([9, 9, 2, 3], XDP_PASS),
        ([192, 0, 2, 7], XDP_PASS),
        ([0, 0, 0, 0], XDP_PASS),
    ] {
        assert_eq!(
            lab.run(&frame_from(client, SERVER, &question)).action,
            action,
            "{client:?}"
        );
    }
    let elsewhere = frame_from([127, 0, 0, 1], (SERVER.0, 54), &question);
    let before = lab.count(&Count::ALL);
    assert_eq!(lab.run(&elsewhere).action, XDP_PASS);
    assert_eq!(
        lab.count(&Count::ALL),
        before,
        "what is not for the server is not counted"
    );
}

#[test]
fn nothing_is_answered_when_nobody_keeps_it_true() {
    let mut lab = Lab::new();
    let asked = frame(&message(NAMES[0], 1, None));
    let now = u32::try_from(lb_userspace::monotonic_seconds()).expect("not that long ago");
    lab.map.answer_until(now).expect("written");
    assert_eq!(lab.run(&asked).action, XDP_PASS);
    assert_eq!(lab.count(&[Count::Stale]), 1);
    lab.speak();
    assert_eq!(lab.run(&asked).action, XDP_TX);
    silence(&lab.settings().bpffs).expect("silenced");
    assert_eq!(lab.run(&asked).action, XDP_PASS);
}

#[test]
fn a_new_daemon_goes_on_and_the_next_without_it_takes_it_off() {
    let mut lab = Lab::new();
    let asked = frame(&message(NAMES[0], 1, None));
    let first = lab.run(&asked);
    let before = lab.count(&[Count::Answered]);
    let settings = lab.settings();
    let says_early = |lab: &Lab| {
        let before = lab.count(&[Count::Answered]);
        says(SERVER, &message(NAMES[0], 1, None));
        lab.count(&[Count::Answered]) - before
    };
    assert_eq!(says_early(&lab), 1);
    lab.map = NameMap::open(settings.clone()).expect("opens again");
    assert_eq!(lab.count(&[Count::Answered]), before + 1, "counts go on");
    assert_eq!(lab.run(&asked).frame, first.frame, "and so do answers");
    assert_eq!(says_early(&lab), 1);
    let pins = settings.bpffs.join("names-1");
    std::fs::remove_file(pins.join("links/xdp-lo")).expect("unpinned");
    assert_eq!(says_early(&lab), 1, "it is held besides");
    assert_eq!(lab.map.restore().expect("restored").len(), 1);
    // Pins of a daemon with another layout.
    let older = settings.bpffs.join("names-0");
    std::fs::create_dir_all(older.join("maps")).expect("made");
    std::fs::hard_link(pins.join("maps/NAME_COUNTS"), older.join("maps/NAME_COUNTS")).expect("pinned");
    let mut other = settings.clone();
    other.interfaces = vec!["up0".to_owned()];
    lab.map = NameMap::open(other).expect("on another interface");
    assert_eq!(says_early(&lab), 0, "it lets go of the first");
    assert!(!older.exists(), "and of what the other layout left");
    lab.map = NameMap::open(settings.clone()).expect("back again");
    assert_eq!(says_early(&lab), 1);
    lb_userspace::names::remove(&settings.bpffs).expect("removed");
    assert!(!pins.exists());
    let missing = settings.interfaces[0].replace("lo", "nothere");
    let mut wrong = settings;
    wrong.interfaces = vec![missing];
    let error = NameMap::open(wrong).expect_err("no such interface").to_string();
    assert!(error.contains("`nothere`") && error.contains("ip link"), "{error}");
}
