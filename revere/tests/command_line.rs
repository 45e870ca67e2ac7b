//! The program as started from a shell: closed outputs, odd environments, missing privilege.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Output, Stdio};

fn revere(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revere"));
    command.args(arguments);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("REVERE_")) {
        command.env_remove(key);
    }
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in [&["completions", "bash"][..], &["config"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = revere(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("started");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        assert_eq!(said(&output), "", "{arguments:?}");
    }
}

#[test]
fn variables_of_others_that_are_no_text_do_not_matter() {
    let broken = OsString::from_vec(vec![b'x', 0xff]);
    let output = revere(&["config"]).env("SOMEBODYS", &broken).output().expect("started");
    assert!(output.status.success(), "{}", said(&output));
    let output = revere(&["config"])
        .env("REVERE_MASTER_CLUSTER", &broken)
        .output()
        .expect("started");
    assert!(!output.status.success());
    assert!(said(&output).contains("REVERE_MASTER_CLUSTER"), "{}", said(&output));
    assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
}

#[test]
fn man_pages_that_cannot_be_written_name_their_directory() {
    let output = revere(&["man", "/proc/none/there"]).output().expect("started");
    assert!(!output.status.success());
    assert!(said(&output).contains("/proc/none/there"), "{}", said(&output));
}

#[test]
fn an_ordinary_user_is_told_what_a_node_needs() {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    // As root the node would start; the same sentence is then tested with the list of capabilities alone.
    if !status.lines().any(|line| line == "CapEff:\t0000000000000000") {
        return;
    }
    let output = revere(&["node", "--set", "node.ip=127.0.0.1", "--set", "node.dataplane=false"])
        .output()
        .expect("started");
    assert!(!output.status.success());
    assert!(
        said(&output).contains("CAP_SYS_ADMIN") && said(&output).contains("as root"),
        "{}",
        said(&output)
    );
    assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
}
