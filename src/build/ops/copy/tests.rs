//! Tests of COPY: what is selected, what its digest is, what the layer holds.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use kiln_cache::StatCache;
use proptest::prelude::*;

use super::*;
use crate::build::context::{Context, Ignore};
use crate::build::graph::{Chmod, CopySource};
use crate::build::tree::merged_tests::{is_root, layer};
use crate::build::tree::{Kind, Merged, walk};

mod flags;
mod reuse;

/// A context, a chain and room for a layer.
struct Setup {
    folder: tempfile::TempDir,
    chain: Vec<PathBuf>,
    layers: std::cell::Cell<usize>,
    ignore: &'static str,
}

impl Setup {
    fn new(context: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        layer(&folder.path().join("context"), context);
        Self { folder, chain: Vec::new(), layers: 0.into(), ignore: "" }
    }

    fn on(mut self, names: &[&str]) -> Self {
        let path = self.folder.path().join(format!("base{}", self.chain.len()));
        self.chain.push(layer(&path, names));
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("context").join(name)
    }

    fn context(&self) -> Context {
        let ignore = Ignore::parse(self.ignore.as_bytes()).unwrap();
        Context::open(&self.folder.path().join("context"), ignore, None).unwrap()
    }

    /// Copies; gives the layer's folder.
    fn copy(&self, spec: &CopySpec) -> Result<(PathBuf, Written)> {
        self.layers.set(self.layers.get() + 1);
        let layer = self.folder.path().join(format!("layer{}", self.layers.get()));
        fs::create_dir(&layer).unwrap();
        let written = execute(spec, &self.context(), &self.chain, &layer)?;
        assert_eq!(written.digest, content_digest(spec, &self.context())?);
        Ok((layer, written))
    }

    /// Copies and lists the layer.
    fn list(&self, spec: &CopySpec) -> Vec<String> {
        list(&self.copy(spec).unwrap().0)
    }

    fn error(&self, spec: &CopySpec) -> String {
        self.copy(spec).unwrap_err().to_string()
    }

    fn digest(&self, spec: &CopySpec) -> Digest {
        content_digest(spec, &self.context()).unwrap()
    }
}

fn list(layer: &Path) -> Vec<String> {
    let tree = Merged::open(&[layer]).unwrap();
    let root = tree.entry(b"").unwrap().unwrap();
    let entries = walk(&tree, &root, &()).unwrap();
    let shown = entries.iter().map(|entry| {
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        match entry.kind {
            Kind::Directory => name + "/",
            Kind::Symlink => name + "->" + &String::from_utf8_lossy(&tree.link_target(entry).unwrap()),
            _ => name,
        }
    });
    shown.collect()
}

fn spec(sources: &[&str], destination: &str) -> CopySpec {
    CopySpec {
        sources: sources.iter().map(|path| CopySource::Path((*path).into())).collect(),
        destination: destination.into(),
        chown: None,
        chmod: None,
        excludes: Vec::new(),
        reset_owner: true,
        unpack: false,
        parents: false,
    }
}

const FILES: &[&str] = &["a.txt", "b.txt", "c.md", "d/x", "d/sub/y", "e[1]"];

#[test]
fn files_land_where_docker_puts_them() {
    if !is_root("files_land_where_docker_puts_them") {
        return;
    }
    let setup = Setup::new(FILES).on(&["dir/old", "file", "link->dir", "abs->/dir/new", "flink->file"]);
    let cases: &[(&[&str], &str, &[&str])] = &[
        (&["a.txt"], "/new", &["new"]),
        (&["a.txt"], "/new/", &["new/", "new/a.txt"]),
        (&["a.txt"], "/new/.", &["new/", "new/a.txt"]),
        (&["a.txt"], "/x/y/z", &["x/", "x/y/", "x/y/z"]),
        (&["a.txt"], "/dir", &["dir/", "dir/a.txt"]),
        (&["a.txt"], "/link", &["dir/", "dir/a.txt"]),
        (&["a.txt"], "/link/sub/", &["dir/", "dir/sub/", "dir/sub/a.txt"]),
        (&["a.txt"], "/abs", &["dir/", "dir/new"]),
        (&["a.txt"], "/flink", &["file"]),
        (&["a.txt"], "/file", &["file"]),
        (&["a.txt"], "/", &["a.txt"]),
        (&["../../a.txt"], "/", &["a.txt"]),
        (&["/a.txt", "./b.txt"], "/n/", &["n/", "n/a.txt", "n/b.txt"]),
        (&["*.txt"], "/n/", &["n/", "n/a.txt", "n/b.txt"]),
        (&["*.none"], "/n/", &[]),
        (&["?.md", "d/*"], "/n/", &["n/", "n/c.md", "n/x", "n/y"]),
        (&["e[[]1]"], "/n/", &["n/", "n/e[1]"]),
        (&["d"], "/n", &["n/", "n/sub/", "n/sub/y", "n/x"]),
        (&["d/"], "/dir", &["dir/", "dir/sub/", "dir/sub/y", "dir/x"]),
        (&["d", "d/sub"], "/n", &["n/", "n/sub/", "n/sub/y", "n/x", "n/y"]),
        (&["."], "/", &["a.txt", "b.txt", "c.md", "d/", "d/sub/", "d/sub/y", "d/x", "e[1]"]),
    ];
    for (sources, destination, expected) in cases {
        assert_eq!(setup.list(&spec(sources, destination)), *expected, "{sources:?} {destination}");
    }
}

/// As BuildKit: each overwrites the one before, unless the destination is a directory.
#[test]
fn several_files_for_one_name_leave_the_last() {
    let setup = Setup::new(&["a", "b"]).on(&["dir/"]);
    for sources in [&["b", "a"][..], &["b", "a", "b"], &["?"]] {
        let (layer, _) = setup.copy(&spec(sources, "/new")).unwrap();
        let last = if sources.len() == 2 { "a" } else { "b" };
        let content = |path: &Path| fs::read(path).unwrap();
        assert_eq!(content(&layer.join("new")), content(&setup.folder.path().join("context").join(last)));
    }
    assert_eq!(setup.list(&spec(&["a", "b"], "/dir")), ["dir/", "dir/a", "dir/b"]);
}

#[test]
fn mistakes_are_told() {
    let mut setup = Setup::new(&["a", "b", "d/x", "hidden", ".wh.gone", "loop->loop", "dangling->nothing"])
        .on(&["dir/a/", "file", "dir/d"]);
    setup.ignore = "hidden\ndeep";
    for (sources, destination, message) in [
        (&["x"][..], "/", "`/x`: not found"),
        (&["dangling"], "/", "`/dangling`: not found"),
        (&["[a"], "/new", "syntax error in pattern `[a`"),
        (&["a"], "/dir/", "cannot overwrite the directory `/dir/a` with a file"),
        (&["d"], "/file", "cannot copy to `/file`: it is not a directory"),
        (&["a"], "/file/", "`/file` is not a directory"),
        (&["a"], "/file/x", "`/file` is not a directory"),
        (
            &["d/x"],
            "/.wh.x",
            "cannot copy `/.wh.x`: names that start with `.wh.` mark deletions in an image's layers",
        ),
        (
            &[".wh.gone"],
            "/",
            "cannot copy `/.wh.gone`: names that start with `.wh.` mark deletions in an image's layers",
        ),
        (&["loop"], "/", "too many symbolic links in `/loop`"),
    ] {
        assert_eq!(setup.error(&spec(sources, destination)), message, "{sources:?} {destination}");
    }
    let error = setup.copy(&spec(&["hidden"], "/")).unwrap_err();
    assert!(matches!(error, Error::NotFound { ignored: true, .. }), "{error:?}");
}

#[test]
fn owner_and_mode_follow_the_flags() {
    if !is_root("owner_and_mode_follow_the_flags") {
        return;
    }
    let setup = Setup::new(&["d/x", "d/l->x"]).on(&["etc/", "old/"]);
    fs::write(setup.chain[0].join("etc/passwd"), "root:x:0:0::/:\napp:x:1000:1001::/:/bin/sh\n").unwrap();
    fs::write(setup.chain[0].join("etc/group"), "root:x:0:\nstaff:x:50:app\n").unwrap();
    fs::set_permissions(setup.chain[0].join("old"), fs::Permissions::from_mode(0o1711)).unwrap();
    std::os::unix::fs::chown(setup.chain[0].join("old"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(setup.at("d/x"), Some(33), Some(34)).unwrap();
    fs::set_permissions(setup.at("d/x"), fs::Permissions::from_mode(0o4750)).unwrap();
    let stat = |layer: &Path, name: &str| {
        let stat = fs::symlink_metadata(layer.join(name)).unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    for (chown, chmod, owner, mode) in [
        (None, None, (0, 0), 0o4750),
        (None, Some(0o600), (0, 0), 0o600),
        (Some("app"), None, (1000, 1001), 0o4750),
        (Some("app:staff"), None, (1000, 50), 0o4750),
        (Some("5"), None, (5, 5), 0o4750),
        (Some("5:staff"), None, (5, 50), 0o4750),
        (Some(":staff"), None, (0, 50), 0o4750),
    ] {
        let spec = CopySpec {
            chown: chown.map(Into::into),
            chmod: chmod.map(Chmod::Mode),
            ..spec(&["d"], "/old/new")
        };
        let (layer, _) = setup.copy(&spec).unwrap();
        assert_eq!(stat(&layer, "old"), (7, 8, 0o1711));
        assert_eq!(stat(&layer, "old/new/x"), (owner.0, owner.1, mode));
        let link = stat(&layer, "old/new/l");
        assert_eq!((link.0, link.1), owner);
    }
    for (chown, message) in [
        ("nobody", "unknown user `nobody`: the image's `/etc/passwd` doesn't have it"),
        ("0:wheel", "unknown group `wheel`: the image's `/etc/group` doesn't have it"),
        ("4294967295", "invalid owner `4294967295`: the number is too large"),
        ("a:b:c", "invalid owner `a:b:c`: it has more than one colon"),
    ] {
        assert_eq!(setup.error(&CopySpec { chown: Some(chown.into()), ..spec(&["d"], "/") }), message);
    }
}

#[test]
fn a_copy_from_an_image_keeps_owners_and_times() {
    if !is_root("a_copy_from_an_image_keeps_owners_and_times") {
        return;
    }
    let setup = Setup::new(&[]).on(&["d/x", "d/gone"]).on(&["d/y", "d/sub/", "-d/gone"]);
    std::os::unix::fs::chown(setup.chain[0].join("d/x"), Some(33), Some(34)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(setup.chain[0].join("d/x"), "user.kept", b"1", flags).unwrap();
    rustix::fs::setxattr(setup.chain[1].join("d/sub"), "user.dir", b"2", flags).unwrap();
    let layer = setup.folder.path().join("out");
    fs::create_dir(&layer).unwrap();
    let from = Merged::open(&setup.chain).unwrap();
    let spec = CopySpec { reset_owner: false, ..spec(&["d"], "/n") };
    let written = execute(&spec, &from, &[], &layer).unwrap();
    assert_eq!(written.digest, content_digest(&spec, &from).unwrap());
    assert_eq!(list(&layer), ["n/", "n/sub/", "n/x", "n/y"]);
    let stat = |path: &Path| fs::symlink_metadata(path).unwrap();
    let (old, new) = (stat(&setup.chain[0].join("d/x")), stat(&layer.join("n/x")));
    assert_eq!(
        (new.uid(), new.gid(), new.mtime(), new.mtime_nsec()),
        (33, 34, old.mtime(), old.mtime_nsec())
    );
    assert_eq!(stat(&layer.join("n")).mtime(), stat(&setup.chain[1].join("d")).mtime());
    let value = |path: &Path, name: &str| {
        let mut value = [0; 8];
        let size = rustix::fs::getxattr(path, name, &mut value).unwrap();
        value[..size].to_vec()
    };
    assert_eq!(value(&layer.join("n/x"), "user.kept"), b"1");
    assert_eq!(value(&layer.join("n/sub"), "user.dir"), b"2");
}

/// docker.io 20.10.24 with BuildKit: /new has 0755 and 0:0 whatever the source's directory has; the
/// directories inside keep theirs. With an octal --chmod docker.io 28.5.2 gives /new that mode, too.
#[test]
fn a_directory_that_is_made_for_a_copy_is_an_ordinary_one() {
    if !is_root("a_directory_that_is_made_for_a_copy_is_an_ordinary_one") {
        return;
    }
    let setup = Setup::new(&[]).on(&["d/sub/", "d/x"]);
    for name in ["d", "d/sub"] {
        let path = setup.chain[0].join(name);
        std::os::unix::fs::chown(&path, Some(8), Some(9)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1700)).unwrap();
    }
    let from = Merged::open(&setup.chain).unwrap();
    let stat = |path: &Path| {
        let stat = fs::symlink_metadata(path).unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    let plain = CopySpec { reset_owner: false, ..spec(&["d"], "/new") };
    let owned = CopySpec { chown: Some("1:2".into()), chmod: Some(Chmod::Mode(0o711)), ..plain.clone() };
    for (spec, top, sub) in [(&plain, (0, 0, 0o755), (8, 9, 0o1700)), (&owned, (1, 2, 0o711), (1, 2, 0o711))]
    {
        let layer = tempfile::tempdir_in(setup.folder.path()).unwrap();
        execute(spec, &from, &[], layer.path()).unwrap();
        assert_eq!((stat(&layer.path().join("new")), stat(&layer.path().join("new/sub"))), (top, sub));
    }
    let before = content_digest(&plain, &from).unwrap();
    fs::set_permissions(setup.chain[0].join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(content_digest(&plain, &from).unwrap(), before);
}

/// docker.io 20.10.24 with BuildKit: `COPY d /` keeps links among the files of d, `COPY h1 h2 /n/` doesn't.
#[test]
fn names_of_one_file_stay_linked_within_a_directory() {
    let setup = Setup::new(&["d/a", "d/z"]);
    fs::hard_link(setup.at("d/a"), setup.at("d/b")).unwrap();
    let inode = |layer: &Path, name: &str| fs::metadata(layer.join(name)).unwrap().ino();
    let (layer, written) = setup.copy(&spec(&["d"], "/")).unwrap();
    assert_eq!(written.digest, setup.digest(&spec(&["d"], "/")));
    assert_eq!(inode(&layer, "a"), inode(&layer, "b"));
    assert_ne!(inode(&layer, "a"), inode(&layer, "z"));
    let (layer, _) = setup.copy(&spec(&["d/a", "d/b"], "/n/")).unwrap();
    assert_ne!(inode(&layer, "n/a"), inode(&layer, "n/b"));
}

#[test]
fn the_digest_sees_content_and_not_times_or_owners() {
    let setup = Setup::new(FILES);
    let all = spec(&["."], "/");
    let before = setup.digest(&all);
    let file = fs::File::open(setup.at("a.txt")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
    assert_eq!(setup.digest(&all), before);
    let moved = Setup::new(FILES);
    assert_eq!(moved.digest(&all), before);

    type Change = fn(&Setup);
    let changes: &[(&str, Change)] = &[
        ("content", |setup| fs::write(setup.at("a.txt"), "other").unwrap()),
        ("mode", |setup| fs::set_permissions(setup.at("a.txt"), fs::Permissions::from_mode(0o755)).unwrap()),
        ("name", |setup| fs::rename(setup.at("a.txt"), setup.at("z.txt")).unwrap()),
        ("an empty directory", |setup| fs::create_dir(setup.at("new")).unwrap()),
        ("a link", |setup| symlink("a.txt", setup.at("l")).unwrap()),
        ("a deletion", |setup| fs::remove_file(setup.at("d/x")).unwrap()),
        ("a directory's mode", |setup| {
            fs::set_permissions(setup.at("d"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let setup = Setup::new(FILES);
        change(&setup);
        assert_ne!(setup.digest(&all), before, "{what}");
    }
    let chmod = CopySpec { chmod: Some(Chmod::Mode(0o600)), ..all };
    let before = setup.digest(&chmod);
    fs::set_permissions(setup.at("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(setup.digest(&chmod), before, "the mode is not what will be written");
}

#[test]
fn an_ignored_or_excluded_file_changes_no_digest() {
    let mut setup = Setup::new(FILES);
    setup.ignore = "*.md";
    let excluding = CopySpec { excludes: vec!["**/y".into(), "b.*".into()], ..spec(&["."], "/") };
    let before = setup.digest(&excluding);
    for name in ["c.md", "d/sub/y", "b.txt"] {
        fs::write(setup.at(name), "changed").unwrap();
    }
    assert_eq!(setup.digest(&excluding), before);
    if is_root("an_ignored_or_excluded_file_changes_no_digest") {
        assert_eq!(setup.list(&excluding), ["a.txt", "d/", "d/sub/", "d/x", "e[1]"]);
        let files = CopySpec { excludes: vec!["b*".into()], ..spec(&["*.txt"], "/") };
        assert_eq!(setup.list(&files), ["a.txt"]);
    }
}

#[test]
fn heredocs_become_files() {
    if !is_root("heredocs_become_files") {
        return;
    }
    let inline = |name: &str| CopySource::Inline { name: name.into(), body: format!("body of {name}") };
    let setup = Setup::new(FILES);
    let one = CopySpec { sources: vec![inline("EOF")], ..spec(&[], "/etc/conf") };
    let (layer, written) = setup.copy(&one).unwrap();
    assert_eq!(fs::read_to_string(layer.join("etc/conf")).unwrap(), "body of EOF");
    assert_eq!(fs::metadata(layer.join("etc/conf")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(written.bytes, 11);
    let many = CopySpec {
        sources: vec![inline("one"), CopySource::Path("a.txt".into()), inline("two")],
        ..spec(&[], "/d/")
    };
    assert_eq!(setup.list(&many), ["d/", "d/a.txt", "d/one", "d/two"]);
}

#[test]
fn the_last_of_two_files_for_one_place_wins() {
    if !is_root("the_last_of_two_files_for_one_place_wins") {
        return;
    }
    let setup = Setup::new(&["one/f", "one/l->f", "two/f->elsewhere", "two/l", "three/f"]);
    fs::write(setup.at("one/f"), "first").unwrap();
    fs::write(setup.at("three/f"), "last").unwrap();
    let (layer, _) = setup.copy(&spec(&["one", "two"], "/d/")).unwrap();
    assert_eq!(list(&layer), ["d/", "d/f->elsewhere", "d/l"]);
    let (layer, written) = setup.copy(&spec(&["one", "two", "three"], "/d/")).unwrap();
    assert_eq!(list(&layer), ["d/", "d/f", "d/l"]);
    assert_eq!(fs::read_to_string(layer.join("d/f")).unwrap(), "last");
    assert!(written.bytes > 0);
}

#[test]
fn a_file_and_a_directory_for_one_place_are_an_error() {
    let setup = Setup::new(&["one/f", "two/f/x", "f"]);
    for (sources, destination, message) in [
        (&["one", "two"], "/d/", "cannot copy to `/d/f`: it is not a directory"),
        (&["two", "one"], "/d/", "cannot overwrite the directory `/d/f` with a file"),
        (&["f", "two"], "/new", "cannot copy to `/new`: it is not a directory"),
    ] {
        assert_eq!(setup.error(&spec(sources, destination)), message);
    }
}

#[test]
fn sockets_are_left_out_and_pipes_are_copied() {
    if !is_root("sockets_are_left_out_and_pipes_are_copied") {
        return;
    }
    let setup = Setup::new(&["d/x"]);
    let _socket = std::os::unix::net::UnixListener::bind(setup.at("d/socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, setup.at("d/pipe"), 0o644.into()).unwrap();
    assert_eq!(setup.list(&spec(&["d"], "/")), ["pipe", "x"]);
    assert_eq!(
        setup.error(&spec(&["d/socket"], "/")),
        "cannot copy `/d/socket`: it is neither a file nor a directory"
    );
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, setup.at("d/null"), kind, 0o644.into(), rustix::fs::makedev(1, 3))
        .unwrap();
    assert_eq!(setup.error(&spec(&["d"], "/")), "cannot copy the device `/d/null`");
}

#[test]
fn names_that_are_no_utf8_are_copied() {
    if !is_root("names_that_are_no_utf8_are_copied") {
        return;
    }
    let setup = Setup::new(&["d/"]);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(setup.at("d").join(name), "x").unwrap();
    let (layer, _) = setup.copy(&spec(&["d"], "/")).unwrap();
    assert!(layer.join(name).exists());
}

#[test]
fn holes_stay_holes() {
    if !is_root("holes_stay_holes") {
        return;
    }
    let setup = Setup::new(&["a"]);
    fs::File::create(setup.at("a")).unwrap().set_len(64 << 20).unwrap();
    let (layer, written) = setup.copy(&spec(&["a"], "/")).unwrap();
    let stat = fs::metadata(layer.join("a")).unwrap();
    assert_eq!((stat.len(), written.bytes), (64 << 20, 64 << 20));
    assert!(stat.blocks() * 512 < 1 << 20);
}

#[test]
fn a_second_build_reads_no_file_that_is_untouched() {
    let setup = Setup::new(FILES);
    let root = setup.folder.path().join("context");
    let store = kiln_cache::Store::open(&setup.folder.path().join("store")).unwrap();
    let open = || Context::open(&root, Ignore::default(), Some(StatCache::load(&store, &root))).unwrap();
    let known = |context: &Context, name: &str| {
        let entry = context.entry(name.as_bytes()).unwrap().unwrap();
        context.known_digest(&entry)
    };
    let all = spec(&["."], "/");
    let context = open();
    assert_eq!(known(&context, "a.txt"), None);
    let first = content_digest(&all, &context).unwrap();
    context.save().unwrap();

    let context = open();
    if known(&context, "a.txt").is_none() {
        println!("this filesystem's times aren't trusted at once: nothing more to show");
        return;
    }
    assert_eq!(known(&context, "d/sub/y"), Some(Digest::of("context")));
    assert_eq!(content_digest(&all, &context).unwrap(), first);
    fs::write(setup.at("a.txt"), "changed").unwrap();
    assert_eq!(known(&context, "a.txt"), None);
    assert_ne!(content_digest(&all, &context).unwrap(), first);
}

/// A tree that knows every digest, and whose file is edited when it is opened.
struct Edited(Context, PathBuf);

impl Tree for Edited {
    fn entry(&self, path: &[u8]) -> tree::Result<Option<tree::Entry>> {
        self.0.entry(path)
    }
    fn children(&self, dir: &tree::Entry) -> tree::Result<Vec<tree::Entry>> {
        self.0.children(dir)
    }
    fn open(&self, entry: &tree::Entry) -> tree::Result<fs::File> {
        fs::write(&self.1, "edited meanwhile").unwrap();
        self.0.open(entry)
    }
    fn link_target(&self, entry: &tree::Entry) -> tree::Result<Vec<u8>> {
        self.0.link_target(entry)
    }
    fn xattrs(&self, entry: &tree::Entry) -> tree::Result<tree::Xattrs> {
        self.0.xattrs(entry)
    }
    fn known_digest(&self, entry: &tree::Entry) -> Option<Digest> {
        (entry.size == 1).then(|| Digest::of("a"))
    }
}

#[test]
fn a_file_edited_after_the_look_up_does_not_poison_the_cache() {
    if !is_root("a_file_edited_after_the_look_up_does_not_poison_the_cache") {
        return;
    }
    let setup = Setup::new(&["f"]);
    fs::write(setup.at("f"), "a").unwrap();
    let spec = spec(&["f"], "/");
    let looked_up = setup.digest(&spec);
    let layer = setup.folder.path().join("out");
    fs::create_dir(&layer).unwrap();
    let written = execute(&spec, &Edited(setup.context(), setup.at("f")), &[], &layer).unwrap();
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "edited meanwhile");
    assert_ne!(written.digest, looked_up);
    assert_eq!(written.digest, setup.digest(&spec));
}

fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, body) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o640);
        header.set_uid(12);
        header.set_gid(13);
        header.set_mtime(1000);
        if *kind == tar::EntryType::Char {
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
        }
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_old_mut().linkname[..body.len()].copy_from_slice(body.as_bytes());
        }
        let body = if link { "" } else { body };
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn add_unpacks_archives_and_copies_the_rest() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    if !is_root("add_unpacks_archives_and_copies_the_rest") {
        return;
    }
    let setup =
        Setup::new(&["plain", "not.tar.gz"]).on(&["usr/lib/old", "lib->usr/lib", "was-file", "was-dir/x"]);
    let tar = archive(&[
        ("./", Directory, ""),
        ("lib/new", Regular, "new"),
        ("d/", Directory, ""),
        ("d/f", Regular, "f"),
        ("d/hard", Link, "d/f"),
        ("d/soft", Symlink, "/etc/passwd"),
        ("was-file", Directory, ""),
        ("was-file/x", Regular, "x"),
        ("was-dir", Regular, "y"),
    ]);
    fs::write(setup.at("all.tar"), &tar).unwrap();
    let add = |sources: &[&str], to| CopySpec { unpack: true, ..spec(sources, to) };
    let (layer, _) = setup.copy(&add(&["all.tar"], "/")).unwrap();
    let expected = [
        "d/",
        "d/f",
        "d/hard",
        "d/soft->/etc/passwd",
        "usr/",
        "usr/lib/",
        "usr/lib/new",
        "was-dir",
        "was-file/",
        "was-file/x",
    ];
    assert_eq!(list(&layer), expected);
    let stat = fs::metadata(layer.join("d/f")).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777, stat.mtime(), stat.nlink()),
        (12, 13, 0o640, 1000, 2)
    );
    let chain: Vec<PathBuf> = setup.chain.iter().cloned().chain([layer]).collect();
    let merged = Merged::open(&chain).unwrap();
    assert_eq!(merged.entry(b"was-dir/x").unwrap(), None);
    assert!(merged.entry(b"usr/lib/old").unwrap().is_some());

    assert_eq!(setup.list(&add(&["plain", "not.tar.gz", "all.tar"], "/n/"))[..3], ["n/", "n/d/", "n/d/f"]);
    assert_eq!(setup.list(&spec(&["all.tar"], "/n/")), ["n/", "n/all.tar"]);
    let chowned = CopySpec { chown: Some("7:8".into()), ..add(&["all.tar"], "/n") };
    let (layer, _) = setup.copy(&chowned).unwrap();
    let stat = fs::metadata(layer.join("n/d/f")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (7, 8));
}

#[test]
fn an_archives_later_entry_replaces_its_earlier_one() {
    use tar::EntryType::{Directory, Regular};
    if !is_root("an_archives_later_entry_replaces_its_earlier_one") {
        return;
    }
    let setup = Setup::new(&[]);
    let entries = [
        ("d/", Directory, ""),
        ("d/e/", Directory, ""),
        ("d/e/x", Regular, "x"),
        ("d0", Regular, "stays"),
        ("d-", Regular, "stays"),
        ("d", Regular, "file now"),
        ("twice", Regular, "first"),
        ("twice", Regular, "last"),
    ];
    fs::write(setup.at("t.tar"), archive(&entries)).unwrap();
    let add = CopySpec { unpack: true, ..spec(&["t.tar"], "/") };
    let (layer, _) = setup.copy(&add).unwrap();
    assert_eq!(list(&layer), ["d", "d-", "d0", "twice"]);
    assert_eq!(fs::read_to_string(layer.join("twice")).unwrap(), "last");
}

#[test]
fn hostile_archives_stay_inside_the_image() {
    use std::error::Error as _;
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    if !is_root("hostile_archives_stay_inside_the_image") {
        return;
    }
    let setup = Setup::new(&[]);
    let outside = setup.folder.path().join("escaped");
    let add = CopySpec { unpack: true, ..spec(&["t.tar"], "/n/") };
    let through_link = archive(&[("l", Symlink, "../../../../.."), ("l/escaped", Regular, "x")]);
    fs::write(setup.at("t.tar"), through_link).unwrap();
    assert_eq!(setup.list(&add), ["escaped", "n/", "n/l->../../../../.."]);
    assert!(!outside.exists());
    for (entries, message) in [
        (&[("../x", Regular, "")][..], "the archive's entry `../x` leads out of it"),
        (
            &[("h", Link, "/etc/passwd")],
            "the archive's hard link `/h` points to `/etc/passwd`, which is not a file of it",
        ),
        (&[("h", Link, "../x")], "the archive's hard link `/h` points to `../x`, which is not a file of it"),
        (&[("zero", Char, "")], "cannot copy the device `/n/zero`"),
        (
            &[("d", Directory, ""), ("d/.wh.x", Regular, "")],
            "cannot copy `/n/d/.wh.x`: names that start with `.wh.` mark deletions in an image's layers",
        ),
    ] {
        fs::write(setup.at("t.tar"), archive(entries)).unwrap();
        let error = setup.copy(&add).unwrap_err();
        assert_eq!(error.to_string(), "cannot unpack `/t.tar`");
        assert_eq!(error.source().unwrap().to_string(), message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    /// What is copied is what was selected, and the digest is a function of it.
    #[test]
    fn a_copied_tree_is_the_selected_tree(names in prop::collection::btree_set("[a-c](/[a-c]){0,3}", 1..12)) {
        if !is_root("a_copied_tree_is_the_selected_tree") {
            return Ok(());
        }
        let setup = Setup::new(&[]);
        for name in &names {
            let path = setup.at(name);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(path, name).unwrap();
            }
        }
        let spec = spec(&["."], "/");
        let (layer, written) = setup.copy(&spec).unwrap();
        prop_assert_eq!(list(&layer), list(&setup.at("")));
        let again = Context::open(&layer, Ignore::default(), None).unwrap();
        prop_assert_eq!(content_digest(&spec, &again).unwrap(), written.digest);
    }
}
