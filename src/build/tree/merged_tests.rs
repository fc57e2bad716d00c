//! Tests of [`super::Merged`]: what overlayfs would show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_cache::{Snapshot, Store};
use proptest::prelude::*;

use super::{Kind, Merged, Tree, resolve, walk};

/// Makes a layer's folder: `a/` a directory, `a` a file, `-a` a whiteout, `!a` an opaque directory, `a->b` a link.
pub(crate) fn layer(root: &Path, names: &[&str]) -> PathBuf {
    std::fs::create_dir_all(root).unwrap();
    for name in names {
        let path = root.join(name.trim_start_matches(['-', '!']).split("->").next().unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((_, target)) = name.split_once("->") {
            std::os::unix::fs::symlink(target, path).unwrap();
        } else if name.starts_with('-') {
            let mode = rustix::fs::Mode::empty();
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::CharacterDevice, mode, 0)
                .unwrap();
        } else if name.starts_with('!') {
            std::fs::create_dir_all(&path).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, "trusted.overlay.opaque", b"y", flags).unwrap();
        } else if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::write(path, root.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
    }
    root.to_path_buf()
}

pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped {test}: needs root");
    }
    root
}

fn list(tree: &dyn Tree) -> Vec<String> {
    let root = tree.entry(b"").unwrap().unwrap();
    let entries = walk(tree, &root, &()).unwrap();
    let shown = |path: &[u8], dir| format!("{}{}", String::from_utf8_lossy(path), if dir { "/" } else { "" });
    entries.iter().map(|entry| shown(&entry.path, entry.is_dir())).collect()
}

fn chain(layers: &[&[&str]]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let paths = layers.iter().enumerate();
    let paths = paths.map(|(index, names)| layer(&folder.path().join(index.to_string()), names)).collect();
    (folder, paths)
}

fn merged(layers: &[&[&str]]) -> (tempfile::TempDir, Merged) {
    let (folder, paths) = chain(layers);
    let tree = Merged::open(&paths).unwrap();
    (folder, tree)
}

#[test]
fn layers_hide_each_other_as_overlayfs_does() {
    if !is_root("layers_hide_each_other_as_overlayfs_does") {
        return;
    }
    let cases: [(&[&[&str]], &[&str]); 9] = [
        (&[&["a", "d/x"], &["d/y"]], &["a", "d/", "d/x", "d/y"]),
        (&[&["a", "b"], &["-a"]], &["b"]),
        (&[&["d/x"], &["-d"]], &[]),
        (&[&["d/x"], &["-d"], &["d/y"]], &["d/", "d/y"]),
        (&[&["d/x"], &["!d", "d/y"]], &["d/", "d/y"]),
        (&[&["d/e/x"], &["d/!e"], &["d/e/z"]], &["d/", "d/e/", "d/e/z"]),
        (&[&["d/x"], &["d"], &["d/y"]], &["d/", "d/y"]),
        (&[&["d/x"], &["d"]], &["d"]),
        (&[&["d/x", "d/y"], &["d/-x"], &["d/x"]], &["d/", "d/x", "d/y"]),
    ];
    for (layers, expected) in cases {
        let layers: Vec<Vec<String>> =
            layers.iter().map(|names| names.iter().map(|name| mark_last(name)).collect()).collect();
        let layers: Vec<Vec<&str>> =
            layers.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
        let layers: Vec<&[&str]> = layers.iter().map(Vec::as_slice).collect();
        let (_folder, tree) = merged(&layers);
        assert_eq!(list(&tree), expected, "{layers:?}");
    }
}

/// `d/-x` is written `-d/x` for [`layer`].
fn mark_last(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((above, last)) if last.starts_with(['-', '!']) => {
            format!("{}{above}/{}", &last[..1], &last[1..])
        }
        _ => name.into(),
    }
}

#[test]
fn the_upper_layers_file_is_read() {
    let (_folder, tree) = merged(&[&["a", "b"], &["a"]]);
    for (name, layer) in [("a", "1"), ("b", "0")] {
        let entry = tree.entry(name.as_bytes()).unwrap().unwrap();
        assert_eq!(std::io::read_to_string(tree.open(&entry).unwrap()).unwrap(), layer);
    }
}

#[test]
fn a_chain_without_layers_is_an_empty_directory() {
    let tree = Merged::open(&[] as &[PathBuf]).unwrap();
    assert!(tree.entry(b"").unwrap().unwrap().is_dir());
    assert_eq!(list(&tree), Vec::<String>::new());
    assert_eq!(tree.entry(b"x").unwrap(), None);
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let (_folder, tree) = merged(&[
        &[
            "usr/lib/libc",
            "lib->usr/lib",
            "abs->/usr/lib",
            "up->../../../../usr",
            "loop->loop",
            "gone->nowhere/x",
        ],
        &["usr/lib64->lib", "etc/passwd"],
    ]);
    for (path, leads_to) in [
        ("lib/libc", "usr/lib/libc"),
        ("abs/libc", "usr/lib/libc"),
        ("up/lib/libc", "usr/lib/libc"),
        ("usr/lib64/libc", "usr/lib/libc"),
        ("lib/../x", "usr/x"),
        ("../../etc/passwd", "etc/passwd"),
        ("gone/y", "nowhere/x/y"),
        ("new/a/b", "new/a/b"),
        ("", ""),
    ] {
        let found = resolve(&tree, path.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&found.path), leads_to, "{path}");
    }
    assert!(resolve(&tree, b"loop/x").is_err());
    assert!(resolve(&tree, b"etc/passwd/x").is_err());
}

#[test]
fn a_directory_that_became_a_link_in_the_layer_is_not_followed() {
    let (folder, tree) = merged(&[&["d/x"]]);
    let dir = tree.entry(b"d").unwrap().unwrap();
    let file = tree.entry(b"d/x").unwrap().unwrap();
    let path = folder.path().join("0/d");
    std::fs::remove_dir_all(&path).unwrap();
    std::os::unix::fs::symlink("/etc", &path).unwrap();
    assert!(tree.open(&file).is_err());
    assert!(tree.children(&dir).is_ok_and(|found| found.is_empty()));
}

#[derive(Debug, Clone)]
enum Change {
    File(Vec<u8>),
    Dir(Vec<u8>),
    Delete(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let path = prop::collection::vec(0..3u8, 1..4)
        .prop_map(|parts| parts.iter().map(|part| vec![b'a' + part]).collect::<Vec<_>>().join(&b'/'));
    (0..3u8, path).prop_map(|(kind, path)| match kind {
        0 => Change::File(path),
        1 => Change::Dir(path),
        _ => Change::Delete(path),
    })
}

/// Applies a change to a model (path → is it a directory) and, if it was possible, says so.
fn apply(model: &mut BTreeMap<Vec<u8>, bool>, change: &Change) -> bool {
    let (path, dir) = match change {
        Change::Delete(path) => {
            let before = model.len();
            model.retain(|known, _| !(known == path || known.starts_with(&[path, &b"/"[..]].concat())));
            return model.len() < before;
        }
        Change::File(path) => (path, false),
        Change::Dir(path) => (path, true),
    };
    let above = super::parent(path).unwrap();
    let fits = above.is_empty() || model.get(above) == Some(&true);
    if !fits || model.contains_key(path) {
        return false;
    }
    model.insert(path.clone(), dir);
    true
}

/// Writes the difference of two models as overlayfs would leave it in an upper folder.
fn write_layer(
    root: &Path,
    before: &BTreeMap<Vec<u8>, bool>,
    after: &BTreeMap<Vec<u8>, bool>,
    touched: &[Vec<u8>],
) {
    use std::os::unix::ffi::OsStrExt;
    let at = |path: &[u8]| root.join(std::ffi::OsStr::from_bytes(path));
    std::fs::create_dir_all(root).unwrap();
    let mut names: Vec<&Vec<u8>> = touched.iter().collect();
    names.sort_by(|left, right| super::compare(left, right));
    names.dedup();
    for path in names {
        let parents_exist =
            super::parent(path).is_none_or(|above| above.is_empty() || after.get(above) == Some(&true));
        if !parents_exist {
            continue;
        }
        let mut above = super::parent(path).unwrap();
        let mut chain = Vec::new();
        while !above.is_empty() {
            chain.push(above.to_vec());
            above = super::parent(above).unwrap();
        }
        for dir in chain.iter().rev() {
            let _ = std::fs::create_dir(at(dir));
        }
        match after.get(path) {
            Some(true) => {
                let _ = std::fs::create_dir(at(path));
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(at(path), "trusted.overlay.opaque", b"y", flags).unwrap();
            }
            Some(false) => std::fs::write(at(path), "").unwrap(),
            None if before.contains_key(path) && std::fs::symlink_metadata(at(path)).is_err() => {
                let kind = rustix::fs::FileType::CharacterDevice;
                rustix::fs::mknodat(rustix::fs::CWD, at(path), kind, rustix::fs::Mode::empty(), 0).unwrap();
            }
            None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Layers made from random changes show what the changes left.
    #[test]
    fn the_merged_view_is_the_sum_of_the_changes(layers in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..5)) {
        if !is_root("the_merged_view_is_the_sum_of_the_changes") {
            return Ok(());
        }
        let folder = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        let mut chain = Vec::new();
        for (index, changes) in layers.iter().enumerate() {
            let before = model.clone();
            let mut touched = Vec::new();
            for change in changes {
                if apply(&mut model, change) {
                    let (Change::File(path) | Change::Dir(path) | Change::Delete(path)) = change;
                    touched.push(path.clone());
                }
            }
            let root = folder.path().join(index.to_string());
            write_layer(&root, &before, &model, &touched);
            chain.push(root);
        }
        let tree = Merged::open(&chain).unwrap();
        let root = tree.entry(b"").unwrap().unwrap();
        let found: BTreeMap<Vec<u8>, bool> =
            walk(&tree, &root, &()).unwrap().into_iter().map(|entry| (entry.path.clone(), entry.is_dir())).collect();
        prop_assert_eq!(&found, &model);
        for (path, dir) in &model {
            let entry = tree.entry(path).unwrap().unwrap();
            prop_assert_eq!(entry.kind == Kind::Directory, *dir);
        }
    }

    /// Groups of layers that were merged into one folder show what the layers show.
    #[test]
    fn a_deep_chain_shows_the_sum_of_the_changes(layers in prop::collection::vec(prop::collection::vec(change(), 0..3), 33..80)) {
        if !is_root("a_deep_chain_shows_the_sum_of_the_changes") {
            return Ok(());
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let lease = store.lease();
        let mut model = BTreeMap::new();
        let mut chain = Vec::new();
        for changes in &layers {
            let before = model.clone();
            let mut touched = Vec::new();
            for change in changes {
                if apply(&mut model, change) {
                    let (Change::File(path) | Change::Dir(path) | Change::Delete(path)) = change;
                    touched.push(path.clone());
                }
            }
            let staged = store.stage(&lease).unwrap();
            write_layer(&staged.fs(), &before, &model, &touched);
            chain.push(staged.commit(Snapshot::default()).unwrap());
        }
        let stack = store.stack(&chain);
        prop_assert_eq!(stack.len(), chain.len() / 32 + chain.len() % 32);
        let raw: Vec<PathBuf> = chain.iter().map(|id| store.snapshot_dir(id)).collect();
        let (deep, merged) = (Merged::open(&raw).unwrap(), Merged::open(&stack).unwrap());
        prop_assert_eq!(list(&deep), list(&merged));
        prop_assert_eq!(list(&merged).len(), model.len());
        for path in model.keys() {
            let (one, other) = (deep.entry(path).unwrap().unwrap(), merged.entry(path).unwrap().unwrap());
            prop_assert_eq!((one.kind, one.mode, one.uid, one.mtime), (other.kind, other.mode, other.uid, other.mtime));
        }
        // What the next build finds is the same; what lost a layer goes.
        prop_assert_eq!(store.stack(&chain), stack);
        drop((lease, deep, merged));
        store.gc(&kiln_cache::Sweep::default()).unwrap();
        prop_assert_eq!(std::fs::read_dir(store.root().join("merged")).unwrap().count(), 0);
    }
}
