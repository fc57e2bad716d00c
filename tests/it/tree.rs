//! Layers as kiln reads and writes them, beside the kernel's overlayfs.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kiln::build::graph::{CopySource, CopySpec};
use kiln::build::ops::copy;
use kiln::build::tree::{Merged, Tree, walk};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::support::needs_root;

/// An overlay that is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf, base_first: &[PathBuf]) -> Self {
        fs::create_dir(&at).unwrap();
        let lowers: Vec<_> = base_first.iter().rev().map(|path| path.to_str().unwrap()).collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", lowers.join(":"))).unwrap();
        rustix::mount::mount("overlay", &at, "overlay", MountFlags::RDONLY, options.as_c_str()).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

type Shown = (String, u32, u32, u32);

fn kernel_view(root: &Path) -> Vec<Shown> {
    let mut found: Vec<Shown> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let stat = entry.metadata().unwrap();
            let name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
            (name, stat.mode() & 0o7777, stat.uid(), stat.gid())
        })
        .collect();
    found.sort();
    found
}

fn kiln_view(base_first: &[PathBuf]) -> Vec<Shown> {
    let tree = Merged::open(base_first).unwrap();
    let root = tree.entry(b"").unwrap().unwrap();
    let entries = walk(&tree, &root, &()).unwrap();
    let mut found: Vec<Shown> = [root]
        .iter()
        .chain(&entries)
        .map(|entry| {
            let name = std::ffi::OsStr::from_bytes(&entry.path).to_string_lossy().into_owned();
            (name, entry.mode, entry.uid, entry.gid)
        })
        .collect();
    found.sort();
    found
}

fn archive(entries: &[(&str, tar::EntryType)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o751);
        header.set_uid(5);
        header.set_gid(6);
        header.set_size(0);
        builder.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer(root: PathBuf, make: impl FnOnce(&Path)) -> PathBuf {
    fs::create_dir_all(&root).unwrap();
    make(&root);
    root
}

#[test]
fn a_layer_of_an_added_archive_looks_the_same_to_overlayfs() {
    use tar::EntryType::{Directory, Regular};
    if !needs_root("a_layer_of_an_added_archive_looks_the_same_to_overlayfs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = layer(at("base"), |root| {
        for dir in ["keep", "dir/sub", "twice/old"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in ["keep/a", "dir/sub/x", "twice/old/x", "file"] {
            fs::write(root.join(file), file).unwrap();
        }
        std::os::unix::fs::chown(root.join("keep"), Some(70), Some(71)).unwrap();
        std::os::unix::fs::symlink("keep", root.join("link")).unwrap();
    });
    let context = layer(at("context"), |root| {
        let bytes = archive(&[
            ("link/b", Regular),
            ("dir", Regular),
            ("file/", Directory),
            ("file/inside", Regular),
            ("twice", Regular),
            ("twice/", Directory),
            ("twice/new", Regular),
        ]);
        fs::File::create(root.join("a.tar")).unwrap().write_all(&bytes).unwrap();
    });
    let spec = CopySpec {
        sources: vec![CopySource::Path("a.tar".into())],
        destination: "/".into(),
        chown: None,
        chmod: None,
        excludes: Vec::new(),
        reset_owner: true,
        unpack: true,
        parents: false,
    };
    let added = layer(at("added"), |_| {});
    let source = Merged::open(&[&context]).unwrap();
    let chain = [base, added];
    copy::execute(&spec, &source, &chain[..1], &chain[1]).unwrap();

    let mounted = Mounted::new(at("mounted"), &chain);
    let seen = kernel_view(&mounted.0);
    assert_eq!(seen, kiln_view(&chain));
    let find =
        |name: &str| seen.iter().find(|(known, ..)| known == name).map(|(_, mode, uid, _)| (*mode, *uid));
    assert_eq!(find("keep/b"), Some((0o751, 5)));
    assert_eq!(find("keep").map(|(_, uid)| uid), Some(70));
    assert_eq!(find("twice/new"), Some((0o751, 5)));
    assert_eq!(find("twice/old"), None, "the directory was a file in between: its old content is gone");
    assert_eq!(find("dir/sub"), None);
}
