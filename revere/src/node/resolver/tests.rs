//! Tests of the resolver file, in directories of their own.

use super::*;

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("state")).expect("made");
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn file(&self) -> ResolverFile {
        let servers = ["198.51.100.1".parse().expect("an address")];
        let upstreams = ["10.0.0.2:53".parse().expect("an address")];
        ResolverFile::new(
            &self.path(),
            &self.state(),
            &servers,
            &["corp.example".to_owned()],
            &upstreams,
        )
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("readable")
    }
}

const THEIRS: &str =
    "domain old.example\nsearch a.example b.example\nnameserver 10.0.0.2\nnameserver\t::1\nnameserver bad\n";

#[test]
fn a_file_is_taken_once_and_given_back_byte_for_byte() {
    let machine = Machine::new();
    fs::write(machine.path(), THEIRS).expect("written");
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o640)).expect("set");
    let before = Content::of(&machine.path()).expect("read");
    assert!(machine.file().take().expect("taken"));
    assert!(
        machine
            .text()
            .contains("\nnameserver 198.51.100.1\nsearch corp.example\n"),
        "{}",
        machine.text()
    );
    assert!(!machine.file().take().expect("again"), "nothing to do");
    // A new daemon with other settings.
    let other = ResolverFile::new(
        &machine.path(),
        &machine.state(),
        &[Ipv4Addr::LOCALHOST.into()],
        &[],
        &[],
    );
    assert!(other.take().expect("taken"));
    assert_eq!(
        original(&machine.path(), &machine.state()),
        THEIRS,
        "known through it all"
    );
    assert!(other.give_back().expect("given back"));
    assert_eq!(Content::of(&machine.path()).expect("read"), before);
    assert!(!other.give_back().expect("no more to give"));
    assert!(!machine.state().join(BEFORE).exists());
}

#[test]
fn a_link_and_nothing_are_given_back_too() {
    let machine = Machine::new();
    assert!(machine.file().take().expect("taken") && machine.file().give_back().expect("given back"));
    assert!(!machine.path().exists());
    let stub = machine.dir.path().join("stub");
    fs::write(&stub, THEIRS).expect("written");
    symlink("stub", machine.path()).expect("linked");
    machine.file().take().expect("taken");
    assert_eq!(
        fs::read_to_string(&stub).expect("readable"),
        THEIRS,
        "not written through the link"
    );
    assert_eq!(original(&machine.path(), &machine.state()), THEIRS);
    machine.file().give_back().expect("given back");
    assert_eq!(fs::read_link(machine.path()).expect("a link"), Path::new("stub"));
}

#[test]
fn what_somebody_else_writes_meanwhile_is_theirs() {
    let machine = Machine::new();
    fs::write(machine.path(), "nameserver 10.0.0.1\n").expect("written");
    machine.file().take().expect("taken");
    fs::write(machine.path(), THEIRS).expect("written by a DHCP client");
    assert!(!machine.file().give_back().expect("left alone"));
    assert_eq!(machine.text(), THEIRS);
    fs::write(machine.path(), "nameserver 10.0.0.1\n").expect("written");
    machine.file().take().expect("taken");
    fs::write(machine.path(), THEIRS).expect("written by a DHCP client");
    assert!(machine.file().take().expect("taken again"));
    machine.file().give_back().expect("given back");
    assert_eq!(machine.text(), THEIRS, "the newest of theirs");
}

#[test]
fn without_the_copy_the_upstream_servers_are_written() {
    let machine = Machine::new();
    fs::write(machine.path(), THEIRS).expect("written");
    machine.file().take().expect("taken");
    fs::remove_file(machine.state().join(BEFORE)).expect("lost");
    assert_eq!(original(&machine.path(), &machine.state()), "");
    machine.file().give_back().expect("given back");
    assert_eq!(
        nameservers(&machine.text()),
        ["10.0.0.2:53".parse().expect("an address")]
    );
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let machine = Machine::new();
    let state = machine.dir.path().join("gone");
    let file = ResolverFile::new(&machine.path(), &state, &[], &[], &[]);
    let told = file.take().expect_err("no place for the copy").to_string();
    assert!(told.contains("gone") && told.contains("node.resolv_conf"), "{told}");
    assert!(
        !machine.path().exists(),
        "nothing is taken that could not be given back"
    );
}

#[test]
fn files_are_read_as_c_libraries_read_them() {
    let addrs: Vec<String> = nameservers(THEIRS).iter().map(ToString::to_string).collect();
    assert_eq!(addrs, ["10.0.0.2:53", "[::1]:53"]);
    assert_eq!(search(THEIRS), ["a.example", "b.example"]);
    assert_eq!(search("nameserver 10.0.0.2\n"), [""; 0]);
    for content in [
        Content::Nothing,
        Content::Link("../run/x y".into()),
        Content::File {
            mode: 0o600,
            bytes: b"nothing\n\xff".to_vec(),
        },
    ] {
        assert_eq!(Content::decode(&content.encode()), Some(content));
    }
    assert_eq!(Content::decode(b"file x\n"), None);
    let listen = ["198.51.100.1:53", "0.0.0.0:53", "10.0.0.1:5353"].map(|addr| addr.parse().expect("an address"));
    let found: Vec<String> = servers(&listen).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["198.51.100.1", "127.0.0.1"]);
}
