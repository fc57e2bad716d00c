//! Layers that people and attackers write.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// One entry of a hand-made archive.
#[derive(Clone)]
struct E {
    path: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    mode: u32,
    data: Vec<u8>,
    device: (u32, u32),
    pax: Vec<(String, Vec<u8>)>,
}

fn entry(kind: u8, path: &str) -> E {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    E { path: path.into(), kind, link: Vec::new(), mode, data: Vec::new(), device: (0, 0), pax: Vec::new() }
}

fn file(path: &str, data: &str) -> E {
    E { data: data.into(), ..entry(b'0', path) }
}

fn link(kind: u8, path: &str, target: &str) -> E {
    E { link: target.into(), ..entry(kind, path) }
}

fn archive(entries: &[E]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in &entry.pax {
                let rest = key.len() + value.len() + 3;
                let length =
                    (1..9).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
                records.extend(format!("{length} {key}=").as_bytes());
                records.extend(value);
                records.push(b'\n');
            }
            put(&mut out, &E { path: b"pax".into(), data: records, kind: b'x', ..entry.clone() });
        }
        put(&mut out, entry);
    }
    out.extend([0; 1024]);
    out
}

fn put(out: &mut Vec<u8>, entry: &E) {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..entry.path.len()].copy_from_slice(&entry.path);
    fields.linkname[..entry.link.len()].copy_from_slice(&entry.link);
    fields.typeflag = [entry.kind];
    header.set_mode(entry.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(entry.data.len() as u64);
    header.set_device_major(entry.device.0).unwrap();
    header.set_device_minor(entry.device.1).unwrap();
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(&entry.data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn root() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn privileged(name: &str) -> bool {
    let privileged = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the test's own switch")]
    let strict = std::env::var_os("KILN_TEST_NO_SKIP").is_some();
    assert!(privileged || !strict, "{name} needs root");
    if !privileged {
        println!("skipped {name}: needs root");
    }
    privileged
}

fn unpacked(entries: &[E]) -> TempDir {
    let dir = root();
    unpack(archive(entries).as_slice(), dir.path()).unwrap();
    dir
}

fn refusal(entries: &[E]) -> String {
    let dir = root();
    let error = unpack(archive(entries).as_slice(), dir.path()).unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
    error.to_string()
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    tar(dir, &mut out, Times::Kept).unwrap();
    out
}

#[test]
fn a_name_that_climbs_out_is_refused_by_name() {
    for name in ["../../etc/passwd", "a/../../etc/passwd", "..", "a/.."] {
        let message = refusal(&[file(name, "x")]);
        assert!(message.contains(name) && message.contains("leaves the root"), "{message}");
    }
    assert!(
        refusal(&[file("a", ""), link(b'1', "b", "../../../etc/shadow")]).contains("`b` links to a name")
    );
}

#[test]
fn a_symlink_out_of_the_root_is_no_way_out() {
    let outside = root();
    let inside = outside.path().to_str().unwrap();
    for target in [inside, "../../../../../../../../../../tmp", "..", "/"] {
        let message = refusal(&[link(b'2', "way", target), file("way/file", "x")]);
        assert!(message.contains("`way/file` goes through a symlink out of the root"), "{message}");
        refusal(&[link(b'2', "way", target), link(b'1', "x", "way/file")]);
        refusal(&[link(b'2', "way", target), entry(b'5', "way/dir")]);
        refusal(&[link(b'2', "way", target), file("way/deep/er/file", "x")]);
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(refusal(&[link(b'2', "a", "b"), link(b'2', "b", "a"), file("a/x", "")]).contains("loop"));
}

#[test]
fn a_symlink_inside_the_root_is_followed() {
    let dir = unpacked(&[
        entry(b'5', "usr/"),
        entry(b'5', "usr/lib/"),
        link(b'2', "lib", "usr/lib"),
        file("lib/x", "1"),
    ]);
    assert_eq!(fs::read_to_string(dir.path().join("usr/lib/x")).unwrap(), "1");
    assert!(dir.path().join("lib").is_symlink());
}

#[test]
fn an_absolute_name_stays_inside() {
    let dir = unpacked(&[file("/etc/passwd", "mine"), file("./a//b", "2")]);
    assert_eq!(fs::read_to_string(dir.path().join("etc/passwd")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(dir.path().join("a/b")).unwrap(), "2");
}

#[test]
fn a_later_entry_wins_and_nothing_is_written_through_a_name() {
    let outside = root();
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let dir = unpacked(&[
        link(b'2', "a", victim.to_str().unwrap()),
        file("a", "new"),
        file("b", "one"),
        link(b'1', "c", "b"),
        file("c", "two"),
        entry(b'5', "d"),
        file("d/x", ""),
        file("d", "was a folder"),
        file("e", "was a file"),
        entry(b'5', "e"),
    ]);
    assert_eq!(fs::read_to_string(victim).unwrap(), "safe");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("c"), read("d")),
        ("new".into(), "one".into(), "two".into(), "was a folder".into())
    );
    assert!(dir.path().join("e").is_dir());
}

#[test]
fn a_swapped_parent_is_looked_up_again() {
    let message =
        refusal(&[entry(b'5', "p"), file("p/one", "1"), link(b'2', "p", "/tmp"), file("p/two", "2")]);
    assert!(message.contains("`p/two`"), "{message}");
    let dir = unpacked(&[
        entry(b'5', "q"),
        link(b'2', "p", "q"),
        file("p/one", "1"),
        entry(b'5', "p"),
        file("p/two", "2"),
    ]);
    assert!(dir.path().join("q/one").exists() && dir.path().join("p/two").exists());
    assert!(!dir.path().join("q/two").exists());
}

#[test]
fn whiteouts_take_overlays_form() {
    if !privileged("whiteouts_take_overlays_form") {
        return;
    }
    let dir = unpacked(&[
        file("a/.wh.gone", ""),
        entry(b'5', "o"),
        file("o/.wh..wh..opq", ""),
        file("o/new", "n"),
        file("top", "t"),
        file(".wh.top", ""),
    ]);
    let gone = fs::symlink_metadata(dir.path().join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 8];
    assert_eq!(
        rustix::fs::lgetxattr(dir.path().join("o"), c"trusted.overlay.opaque", &mut value).unwrap(),
        1
    );
    // A deletion hides lower layers only.
    assert_eq!(fs::read_to_string(dir.path().join("top")).unwrap(), "t");
    let out = packed(dir.path());
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains("a/.wh.gone") && text.contains("o/.wh..wh..opq") && !text.contains(".wh.top"));
}

#[test]
fn a_folder_after_its_own_deletion_is_opaque() {
    if !privileged("a_folder_after_its_own_deletion_is_opaque") {
        return;
    }
    for entries in [
        [file(".wh.d", ""), entry(b'5', "d")],
        [entry(b'5', "d"), file(".wh.d", "")],
        [file(".wh.d", ""), file("d/x", "")],
    ] {
        let dir = unpacked(&entries);
        assert!(dir.path().join("d").is_dir());
        let mut value = [0; 8];
        assert!(rustix::fs::lgetxattr(dir.path().join("d"), c"trusted.overlay.opaque", &mut value).is_ok());
    }
}

#[test]
fn forged_markers_never_get_in() {
    let device = E { device: (0, 0), ..entry(b'3', "dev") };
    assert!(refusal(&[device]).contains("0:0 device"));
    for name in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        refusal(&[file(name, "")]);
    }
    refusal(&[file("x/.wh.y/z", "")]);
    if !privileged("forged_markers_never_get_in") {
        return;
    }
    refusal(&[file(".wh.a", ""), link(b'1', "b", "a")]);
    let pax = ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.kept"];
    let pax = pax.map(|name| (format!("SCHILY.xattr.{name}"), b"y\n\0z".to_vec())).to_vec();
    let dir = unpacked(&[E { pax, ..entry(b'5', "d") }]);
    let mut names = [0_u8; 256];
    let length = rustix::fs::llistxattr(dir.path().join("d"), names.as_mut_slice()).unwrap();
    assert_eq!(&names[..length], b"user.kept\0");
}

#[test]
fn an_archive_for_add_may_not_hold_deletions() {
    let bytes = archive(&[file("a/.wh.b", "")]);
    let dir = root();
    let error = unpack_with(bytes.as_slice(), dir.path(), Whiteouts::Refuse).unwrap_err();
    assert!(error.to_string().contains("a/.wh.b"));
}

#[test]
fn truncated_archives_are_errors() {
    let bytes = archive(&[file("a", &"x".repeat(2000)), file("b", "y")]);
    for length in [100, 512, 700, 2400, 2560 + 100, 3072 + 100] {
        let dir = root();
        let error = unpack(&bytes[..length], dir.path()).unwrap_err();
        assert!(matches!(error, LayerError::Truncated { .. }), "{length}: {error:?}");
    }
    let dir = root();
    assert!(
        unpack([7_u8; 600].as_slice(), dir.path())
            .unwrap_err()
            .to_string()
            .contains("is this a tar archive?")
    );
}

#[test]
fn modes_and_times_are_exact_whatever_the_umask() {
    if !privileged("modes_and_times_are_exact_whatever_the_umask") {
        return;
    }
    let setuid = E { mode: 0o4755, ..file("su", "x") };
    let open = E { mode: 0o1777, ..entry(b'5', "tmp") };
    let closed = E { mode: 0o500, ..entry(b'5', "closed") };
    let setgid = E { mode: 0o2775, pax: vec![("gid".into(), b"50".to_vec())], ..entry(b'5', "local") };
    let dir = unpacked(&[
        setuid,
        open,
        closed,
        file("closed/x", ""),
        setgid,
        file("local/x", ""),
        file("implicit/deep/x", ""),
    ]);
    let stat = |name: &str| fs::metadata(dir.path().join(name)).unwrap();
    assert_eq!(stat("su").mode() & 0o7777, 0o4755);
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(stat("closed").mode() & 0o7777, 0o500);
    assert_eq!((stat("local").gid(), stat("local/x").gid()), (50, 0));
    assert_eq!((stat("implicit/deep").mode() & 0o7777, stat("implicit").mtime()), (0o755, 1_000_000_000));
    assert_eq!(stat("closed").mtime(), 1_000_000_000);
}

#[test]
fn sparse_files_keep_their_holes() {
    for format in ["gnu", "posix"] {
        let source = root();
        let mut file = fs::File::create(source.path().join("sparse")).unwrap();
        file.set_len(5 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 1 << 20).unwrap();
        file.flush().unwrap();
        let output = std::process::Command::new("tar")
            .arg(format!("--format={format}"))
            .args(["-S", "-C"])
            .arg(source.path())
            .args(["-c", "sparse"])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.len() < 1 << 20);
        let dir = root();
        unpack(output.stdout.as_slice(), dir.path()).unwrap();
        let read = fs::read(dir.path().join("sparse")).unwrap();
        assert!(read == fs::read(source.path().join("sparse")).unwrap(), "{format}");
        assert!(fs::metadata(dir.path().join("sparse")).unwrap().blocks() < 1024);
    }
}

#[test]
fn a_canonical_tar_is_what_gnu_tar_lists() {
    let dir = root();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    fs::create_dir(dir.path().join("d".repeat(200))).unwrap();
    fs::write(dir.path().join(&long), "x").unwrap();
    symlink("t".repeat(300), dir.path().join("link")).unwrap();
    fs::write(dir.path().join("b"), "hello").unwrap();
    fs::hard_link(dir.path().join("b"), dir.path().join("a")).unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let scratch = root();
    let path = scratch.path().join("t.tar");
    fs::write(&path, packed(dir.path())).unwrap();
    let list = std::process::Command::new("tar").arg("-tf").arg(&path).output().unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8(list.stdout).unwrap();
    let names: Vec<&str> = list.lines().filter(|name| *name != "./").collect();
    assert_eq!(names, ["a", "b", &format!("{}/", "d".repeat(200)), &long, "link"]);
}

#[test]
fn times_are_ruled_in_the_archive_only() {
    let dir = root();
    for (name, seconds) in [("new", 7), ("old", 3)] {
        fs::write(dir.path().join(name), "x").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = fs::File::open(dir.path().join(name)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
    }
    for (times, expected) in [(Times::Kept, [7, 3]), (Times::Clamped(5), [5, 3]), (Times::Set(5), [5, 5])] {
        let mut out = Vec::new();
        tar(dir.path(), &mut out, times).unwrap();
        let mut entries = Entries::new(out.as_slice());
        let mut found = Vec::new();
        while let Some(entry) = entries.next().unwrap() {
            found.extend((entry.kind == Kind::File).then_some(entry.mtime.0));
        }
        assert_eq!(found, expected, "{times:?}");
    }
}

#[test]
fn layers_merge_as_a_mount_would_show_them() {
    if !privileged("layers_merge_as_a_mount_would_show_them") {
        return;
    }
    let base = unpacked(&[
        file("a", "1"),
        file("d/x", "1"),
        file("d/y", "1"),
        file("o/old", "1"),
        file("f/in", "1"),
        link(b'2', "l", "d"),
    ]);
    let top = unpacked(&[
        file(".wh.a", ""),
        file("d/.wh.x", ""),
        file("d/z", "2"),
        entry(b'5', "o"),
        file("o/.wh..wh..opq", ""),
        file("o/new", "2"),
        file("f", "now a file"),
    ]);
    let dirs = [base.path().to_owned(), top.path().to_owned()];
    let mut seen = Vec::new();
    flatten(&dirs, &mut |node| {
        seen.push((String::from_utf8(node.path.to_vec()).unwrap(), node.layer));
        Ok(())
    })
    .unwrap();
    let seen: Vec<(&str, usize)> = seen.iter().map(|(path, layer)| (path.as_str(), *layer)).collect();
    assert_eq!(seen, [("", 1), ("d", 1), ("d/y", 0), ("d/z", 1), ("f", 1), ("l", 0), ("o", 1), ("o/new", 1)]);
    let mut merged = Vec::new();
    tar_merged(&dirs.map(|dir| (dir, Times::Kept)), &mut merged).unwrap();
    let out = root();
    unpack_with(merged.as_slice(), out.path(), Whiteouts::Refuse).unwrap();
    assert_eq!(fs::read_to_string(out.path().join("f")).unwrap(), "now a file");
}

/// A tree to make: names to what they are.
#[derive(Debug, Clone)]
enum Leaf {
    File { data: Vec<u8>, mode: u32, uid: u32, mtime: i64, xattr: Option<Vec<u8>> },
    Folder { mode: u32, uid: u32 },
    Link(String),
    HardLink,
    Fifo,
    Gone,
    Opaque,
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let owner = prop_oneof![Just(0_u32), Just(1000), Just(3_000_000)];
    let time = prop_oneof![Just(0_i64), Just(1_700_000_000), Just(-5), Just(1_i64 << 34)];
    let data = proptest::collection::vec(any::<u8>(), 0..1500);
    let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20));
    prop_oneof![
        4 => (data, 0_u32..0o10000, owner.clone(), time, xattr)
            .prop_map(|(data, mode, uid, mtime, xattr)| Leaf::File { data, mode, uid, mtime, xattr }),
        3 => (0_u32..0o10000, owner).prop_map(|(mode, uid)| Leaf::Folder { mode, uid }),
        1 => "[a-z/.]{1,150}".prop_map(Leaf::Link),
        1 => Just(Leaf::HardLink),
        1 => Just(Leaf::Fifo),
        1 => Just(Leaf::Gone),
        1 => Just(Leaf::Opaque),
    ]
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Leaf>> {
    let name = prop_oneof![4 => "[a-c]{1,2}", 1 => "[a-zé ]{90,120}"];
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    proptest::collection::btree_map(path, leaf(), 0..14)
}

fn plant(dir: &Path, tree: &BTreeMap<String, Leaf>) {
    use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
    let mut files: Vec<PathBuf> = Vec::new();
    for (name, leaf) in tree {
        let path = dir.join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match leaf {
            Leaf::File { data, mode, uid, mtime, xattr } => {
                fs::write(&path, data).unwrap();
                std::os::unix::fs::chown(&path, Some(*uid), Some(*uid)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                if let Some(value) = xattr {
                    rustix::fs::lsetxattr(&path, c"user.test", value, XattrFlags::empty()).unwrap();
                }
                let time = Timespec { tv_sec: *mtime, tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
                files.push(path);
            }
            Leaf::Folder { mode, uid } => {
                fs::create_dir(&path).unwrap();
                std::os::unix::fs::chown(&path, Some(*uid), Some(*uid)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Leaf::Link(target) => symlink(target, &path).unwrap(),
            Leaf::HardLink => {
                if let Some(first) = files.first() {
                    fs::hard_link(first, &path).unwrap();
                }
            }
            Leaf::Fifo => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap()
            }
            Leaf::Gone => {
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            }
            Leaf::Opaque => {
                fs::create_dir(&path).unwrap();
                rustix::fs::lsetxattr(&path, c"trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// unpack ∘ tar gives the folder back, seen by its own tar: modes, owners, links, markers, attributes.
    #[test]
    fn packing_and_unpacking_are_inverse(tree in tree()) {
        if privileged("packing_and_unpacking_are_inverse") {
            let first = root();
            plant(first.path(), &tree);
            let bytes = packed(first.path());
            let second = root();
            unpack(bytes.as_slice(), second.path()).unwrap();
            prop_assert!(packed(second.path()) == bytes);
            prop_assert_eq!(listing(first.path()), listing(second.path()));
        }
    }

    /// Whatever the bytes, unpacking ends with a result and touches nothing outside.
    #[test]
    fn damaged_archives_end_in_an_error_or_a_folder(at in 0_usize..6000, value in any::<u8>(), cut in 0_usize..7000) {
        let mut bytes = archive(&[
            entry(b'5', "d"), file("d/f", &"x".repeat(700)), link(b'2', "s", "d"), link(b'1', "h", "d/f"),
            E { pax: vec![("path".into(), b"p/q".to_vec()), ("mtime".into(), b"1.5".to_vec())], ..file("n", "y") },
        ]);
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(cut);
        let dir = root();
        let _ = unpack(bytes.as_slice(), dir.path());
    }
}

/// Names, types, modes, owners, whole-second times and links, as lines.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for item in walkdir::WalkDir::new(dir).sort_by_file_name().min_depth(1) {
        let item = item.unwrap();
        let stat = item.path().symlink_metadata().unwrap();
        let name = item.path().strip_prefix(dir).unwrap().display().to_string();
        let whiteout = stat.file_type().is_char_device();
        let (mode, uid) = if whiteout { (0, 0) } else { (stat.mode(), stat.uid()) };
        let time = if whiteout { 0 } else { stat.mtime() };
        let links = if stat.is_dir() || whiteout { 0 } else { stat.nlink() };
        lines.push(format!("{name} {mode:o} {uid} {time} {links} {:?}", fs::read_link(item.path()).ok()));
    }
    lines
}
