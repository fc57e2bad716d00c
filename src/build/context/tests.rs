//! Tests of the context as a tree.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::*;
use crate::build::tree::{resolve, walk};

fn files(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

fn open(root: &Path, ignore: &str) -> Context {
    Context::open(root, Ignore::parse(ignore.as_bytes()).unwrap(), None).unwrap()
}

fn list(context: &Context) -> Vec<String> {
    let root = context.entry(b"").unwrap().unwrap();
    let entries = walk(context, &root, &()).unwrap();
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn hidden_paths_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), &["a.c", "a.o", "src/b.c", "src/b.o", "src/deep/keep.o", "target/x", "target/keep/y"]);
    let context = open(dir.path(), "**/*.o\n!src/deep/keep.o\ntarget\n!target/keep");
    assert_eq!(
        list(&context),
        ["a.c", "src", "src/b.c", "src/deep", "src/deep/keep.o", "target", "target/keep", "target/keep/y"]
    );
    assert_eq!(context.entry(b"a.o").unwrap(), None);
    assert_eq!(context.entry(b"target/x").unwrap(), None);
    assert!(context.hides(b"a.o") && context.hides(b"target/x"));
    assert!(!context.hides(b"missing.o") && !context.hides(b"a.c"));
}

#[test]
fn a_hidden_directory_without_anything_shown_in_it_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), &["a", "hidden/x/y", "hidden/z"]);
    assert_eq!(list(&open(dir.path(), "hidden\n!**/keep")), ["a"]);
}

#[test]
fn many_directories_are_walked_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> =
        (0..600).map(|index| format!("d{}/e{}/f{index}", index % 30, index % 7)).collect();
    files(dir.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    let context = open(dir.path(), "d3/e1\n!d3/e1/f3");
    let found = list(&context);
    let mut expected: Vec<String> = walkdir::WalkDir::new(dir.path())
        .min_depth(1)
        .into_iter()
        .map(|entry| entry.unwrap().path().strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned())
        .filter(|name| !context.check(name.as_bytes()).0)
        .collect();
    expected.sort_by(|left, right| crate::build::tree::compare(left.as_bytes(), right.as_bytes()));
    assert_eq!(found, expected);
}

#[test]
fn links_do_not_lead_out_of_the_context() {
    let outer = tempfile::tempdir().unwrap();
    files(outer.path(), &["secret", "context/file"]);
    let root = outer.path().join("context");
    std::os::unix::fs::symlink("../secret", root.join("up")).unwrap();
    std::os::unix::fs::symlink(outer.path(), root.join("dir")).unwrap();
    let context = open(&root, "");
    assert_eq!(resolve(&context, b"up").unwrap().entry, None);
    assert_eq!(resolve(&context, b"dir/secret").unwrap().entry, None);
    let link = Entry { path: b"dir/secret".to_vec(), ..context.entry(b"file").unwrap().unwrap() };
    assert!(context.open(&link).is_err());
}

#[test]
fn a_pipe_in_the_place_of_a_file_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), &["a"]);
    let context = open(dir.path(), "");
    let entry = context.entry(b"a").unwrap().unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("a"), 0o644.into()).unwrap();
    assert_eq!(context.open(&entry).unwrap_err().to_string(), "`/a` changed while it was read");
}

#[test]
fn the_dockerfiles_own_ignore_file_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let hides = |dockerfile: Option<&str>, name: &str| {
        let dockerfile = dockerfile.map(|name| dir.path().join(name));
        ignore_for(dockerfile.as_deref(), dir.path()).unwrap().matches(name.as_bytes())
    };
    assert!(!hides(None, "a") && !hides(Some("Dockerfile"), "a"));
    fs::write(dir.path().join(".dockerignore"), "a").unwrap();
    fs::write(dir.path().join("other.Dockerfile.dockerignore"), "b").unwrap();
    assert!(hides(Some("Dockerfile"), "a") && !hides(Some("Dockerfile"), "b"));
    assert!(!hides(Some("other.Dockerfile"), "a") && hides(Some("other.Dockerfile"), "b"));
    fs::write(dir.path().join(".dockerignore"), "[").unwrap();
    let error = ignore_for(None, dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("/.dockerignore`"), "{error}");
}

#[test]
fn an_ignore_file_that_is_a_link_out_of_the_context_is_not_read() {
    let outer = tempfile::tempdir().unwrap();
    files(outer.path(), &["secret", "context/a"]);
    let root = outer.path().join("context");
    for target in ["../secret", "/dev/zero"] {
        std::os::unix::fs::symlink(target, root.join(".dockerignore")).unwrap();
        assert!(ignore_for(None, &root).unwrap().is_empty(), "{target}");
        fs::remove_file(root.join(".dockerignore")).unwrap();
    }
    fs::create_dir(root.join("Dockerfile.dockerignore")).unwrap();
    assert!(ignore_for(Some(&root.join("Dockerfile")), &root).is_err());
}

#[test]
fn a_context_that_does_not_exist_is_named() {
    let error = Context::open(Path::new("/nonexistent/context"), Ignore::default(), None).err().unwrap();
    assert_eq!(error.to_string(), "cannot open the build context `/nonexistent/context`");
}

fn spooled(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn tar_of(names: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, body) in names {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_becomes_a_context() {
    if !crate::build::tree::merged_tests::is_root("an_archive_becomes_a_context") {
        return;
    }
    let plain = tar_of(&[("Dockerfile", "FROM scratch"), ("./src/a", "a"), ("/abs", "x")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain, gzip.finish().unwrap(), zstd] {
        let dir = tempfile::tempdir().unwrap();
        unpack(&spooled(&bytes), dir.path()).unwrap();
        assert_eq!(list(&open(dir.path(), "")), ["Dockerfile", "abs", "src", "src/a"]);
    }
}

/// Packed by the programs that users have; see testdata/archives.
#[test]
fn bzip2_and_xz_archives_become_contexts_too() {
    use std::error::Error as _;
    if !crate::build::tree::merged_tests::is_root("bzip2_and_xz_archives_become_contexts_too") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives");
    for name in ["tiny.tar.bz2", "tiny.tar.xz", "two-streams.tar.bz2", "two-streams.tar.xz"] {
        let dir = tempfile::tempdir().unwrap();
        unpack(&fs::File::open(folder.join(name)).unwrap(), dir.path()).unwrap();
        assert_eq!(list(&open(dir.path(), "")), ["Dockerfile", "src", "src/a"], "{name}");
        // All of it counts: what is cut off or damaged is told.
        let bytes = fs::read(folder.join(name)).unwrap();
        for damaged in [&bytes[..bytes.len() - 60], &[&bytes[..150], b"????", &bytes[154..]].concat()] {
            let dir = tempfile::tempdir().unwrap();
            assert!(unpack(&spooled(damaged), dir.path()).is_err(), "{name}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let greedy = fs::File::open(folder.join("dictionary-of-4-gib.tar.xz")).unwrap();
    let error = unpack(&greedy, dir.path()).unwrap_err();
    let reason = error.source().and_then(std::error::Error::source).map(ToString::to_string);
    assert_eq!(reason.as_deref(), Some("its xz dictionary is over 128 MiB"));
}

#[test]
fn hostile_and_foreign_archives_are_refused() {
    use std::error::Error as _;
    let outer = tempfile::tempdir().unwrap();
    for (index, (bytes, message)) in [
        (b"just text".to_vec(), "the build context is not a tar archive"),
        (Vec::new(), "the build context is not a tar archive"),
        (tar_of(&[("../../escaped", "x")]), "the archive's entry `../../escaped` leads out of it"),
        (tar_of(&[("a/../../escaped", "x")]), "the archive's entry `a/../../escaped` leads out of it"),
        (b"BZh91AY&SY".to_vec(), "the build context is not a tar archive"),
        (b"\xfd7zXZ\0".to_vec(), "the build context is not a tar archive"),
        (tar_of(&[("a", "x")])[..700].to_vec(), "the archive is truncated in `a`"),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = outer.path().join(index.to_string());
        fs::create_dir(&dir).unwrap();
        let error = unpack(&spooled(&bytes), &dir).unwrap_err();
        let shown = error.source().map_or(error.to_string(), |source| source.to_string());
        assert_eq!(shown, message);
        assert!(!outer.path().join("escaped").exists());
    }
}
