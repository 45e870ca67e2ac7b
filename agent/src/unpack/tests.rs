//! Hostile archives, and what honest ones become.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

const LIMIT: u64 = 1 << 20;

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Writes the name as it is: the library's own writer refuses what these tests are about.
    fn entry(mut self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000);
        header.set_size(u64::try_from(content.len()).expect("fits"));
        header.set_cksum();
        self.0.append(&header, content).expect("appends");
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("ends")
    }

    fn unpack(self, purpose: Purpose) -> (tempfile::TempDir, Result<u64, UnpackError>) {
        let dir = tempfile::tempdir().expect("tempdir");
        let into = dir.path().join("into");
        fs::create_dir(&into).expect("creates");
        let done = unpack_tar(Cursor::new(self.bytes()), &into, purpose, LIMIT);
        (dir, done)
    }
}

fn refused(tar: Tar, word: &str) {
    let (dir, done) = tar.unpack(Purpose::Files);
    let error = done.expect_err(word).to_string();
    assert!(error.contains(word), "{error}");
    let outside: Vec<_> = fs::read_dir(dir.path()).expect("reads").flatten().collect();
    assert_eq!(outside.len(), 1, "nothing was written outside: {outside:?}");
}

#[test]
fn paths_that_lead_up_are_refused() {
    refused(Tar::new().file("../evil", "x"), "leads out");
    refused(Tar::new().file("a/../../evil", "x"), "leads out");
    refused(Tar::new().entry(EntryType::Link, "a", "../evil", b""), "hard link");
    refused(Tar::new().entry(EntryType::Link, "a", "missing", b""), "hard link");
}

#[test]
fn absolute_paths_and_links_stay_inside() {
    let outside = tempfile::tempdir().expect("tempdir");
    let evil = outside.path().to_str().expect("plain").to_owned();
    let tar = Tar::new()
        .file("/etc/absolute", "inside")
        .file(&format!("{evil}/own"), "inside")
        .symlink("link", &evil)
        .file("link/through", "inside")
        .symlink("up", "../../..")
        .file("up/through", "inside")
        .symlink("self", &format!("{evil}/file"))
        .file("self", "inside")
        .entry(EntryType::Link, "hard", "link/through", b"");
    let (dir, done) = tar.unpack(Purpose::Files);
    done.expect("is unpacked");
    let into = dir.path().join("into");
    assert_eq!(fs::read_to_string(into.join("etc/absolute")).expect("there"), "inside");
    assert_eq!(
        fs::read_dir(outside.path()).expect("reads").count(),
        0,
        "nothing followed the link"
    );
    assert!(!dir.path().join("through").exists());
    assert_eq!(fs::read_to_string(into.join("through")).expect("at the root"), "inside");
    assert!(
        into.join("self").symlink_metadata().expect("there").is_file(),
        "the link was replaced"
    );
    let mode = into.join("self").metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-user-id in a sandbox");
}

#[test]
fn devices_are_left_out_and_directories_replaced() {
    let tar = Tar::new()
        .entry(EntryType::Char, "null", "", b"")
        .entry(EntryType::Block, "disk", "", b"")
        .file("a/b/c", "1")
        .file("a", "now a file");
    let (dir, done) = tar.unpack(Purpose::Files);
    done.expect("is unpacked");
    let into = dir.path().join("into");
    assert!(!into.join("null").exists() && !into.join("disk").exists());
    assert_eq!(fs::read_to_string(into.join("a")).expect("a file"), "now a file");
}

#[test]
fn too_much_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    let tar = Tar::new().file("big", &"x".repeat(60_000)).bytes();
    let error = unpack_tar(Cursor::new(tar.clone()), dir.path(), Purpose::Files, 50_000).expect_err("too large");
    assert!(matches!(error, UnpackError::Limit(50_000)), "{error}");
    assert!(!dir.path().join("big").exists());
    let many = (0..20).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), ""));
    let error = unpack_tar(Cursor::new(many.bytes()), dir.path(), Purpose::Files, 50_000).expect_err("too many");
    assert!(matches!(error, UnpackError::Limit(_)), "{error}");
    let cut = unpack_tar(Cursor::new(&tar[..1_000]), dir.path(), Purpose::Files, LIMIT).expect_err("cut");
    assert!(matches!(cut, UnpackError::Damaged(_)), "{cut}");
}

#[test]
fn every_compression_is_known() {
    let tar = Tar::new().file("a", "hello").bytes();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).expect("writes");
        encoder.finish().expect("ends")
    };
    let bzip = {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&tar).expect("writes");
        encoder.finish().expect("ends")
    };
    let xz = {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&tar).expect("writes");
        encoder.finish().expect("ends")
    };
    let zstd = zstd::encode_all(&tar[..], 1).expect("writes");
    let named = [
        ("a.tar", tar),
        ("a.tgz", gzip),
        ("a.tar.bz2", bzip),
        ("a.txz", xz),
        ("a.tar.zst", zstd),
    ];
    for (name, bytes) in named {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join(name);
        fs::write(&file, bytes).expect("writes");
        unpack_archive(&file, name, dir.path(), LIMIT).expect(name);
        assert_eq!(fs::read_to_string(dir.path().join("a")).expect(name), "hello");
        assert!(is_archive(name));
    }
    assert!(is_archive("A.ZIP") && !is_archive("tar") && !is_archive("a.jar"));
}

#[test]
fn a_file_that_swells_is_stopped() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("zeros.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&file).expect("creates"), flate2::Compression::fast());
    encoder.write_all(&vec![0; 300_000]).expect("writes");
    encoder.finish().expect("ends");
    let error = unpack_archive(&file, "zeros.gz", dir.path(), 100_000).expect_err("swells");
    assert!(matches!(error, UnpackError::Limit(100_000)), "{error}");
    unpack_archive(&file, "zeros.gz", dir.path(), LIMIT).expect("fits");
    assert_eq!(fs::metadata(dir.path().join("zeros")).expect("there").len(), 300_000);
}

#[test]
fn zips_stay_inside_too() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("a.zip");
    let write = |names: &[&str]| {
        let mut zip = zip::ZipWriter::new(fs::File::create(&file).expect("creates"));
        for name in names {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(0o4755);
            zip.start_file(*name, options).expect("starts");
            zip.write_all(b"hello").expect("writes");
        }
        zip.finish().expect("ends");
    };
    write(&["d/a"]);
    let into = dir.path().join("into");
    fs::create_dir(&into).expect("creates");
    unpack_archive(&file, "a.zip", &into, LIMIT).expect("fits");
    assert_eq!(fs::metadata(into.join("d/a")).expect("there").mode() & 0o7777, 0o755);
    write(&["../evil"]);
    let error = unpack_archive(&file, "a.zip", &into, LIMIT).expect_err("escapes");
    assert!(matches!(error, UnpackError::Escape(_)), "{error}");
    assert!(!dir.path().join("evil").exists());
}

#[test]
fn deletions_become_overlayfs_own() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tar = Tar::new()
        .file("d/.wh.gone", "")
        .file("e/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "");
    let (dir, done) = tar.unpack(Purpose::Layer);
    done.expect("is unpacked");
    let gone = dir.path().join("into/d/gone").symlink_metadata().expect("a whiteout");
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let mut value = [0; 2];
    let opaque = dir.path().join("into/e");
    let length = rustix::fs::getxattr(&opaque, "trusted.overlay.opaque", &mut value).expect("is set");
    assert_eq!((length, value[0]), (1, b'y'));
    assert!(!dir.path().join("into/.wh..wh.plnk").exists());
    for name in [".wh.", ".wh..", ".wh..."] {
        let (_dir, done) = Tar::new().file(name, "").unpack(Purpose::Layer);
        assert!(matches!(done, Err(UnpackError::Escape(_))), "{name}: {done:?}");
    }
    let (kept, done) = Tar::new().file("s", "x").unpack(Purpose::Layer);
    done.expect("is unpacked");
    assert_eq!(
        fs::metadata(kept.path().join("into/s")).expect("there").mode() & 0o7777,
        0o4755
    );
}
