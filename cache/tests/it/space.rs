//! A full disk.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use kiln_cache::{Digest, Error, Lease, Snapshot, Store, Sweep};

use crate::support::{child, names, root_of_child};

/// Fills a disk of a few megabytes, which only this process and its children see.
#[test]
#[ignore = "the child of `a_full_disk_is_named_and_can_be_collected`"]
fn on_a_small_disk() {
    let Some(root) = root_of_child() else { return };
    let store = Store::open(&root).unwrap();
    let lease = store.lease();
    let mut image = Vec::new();
    let error = loop {
        match fill(&store, &lease, image.len()) {
            Ok(digest) => image.push(digest),
            Err(error) => break error,
        }
    };
    assert!(error.is_disk_full(), "{error:?}");
    assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
    fill_the_rest(&root);
    let failed = (0..1000).map(|number| store.put_note("kind", &number.to_string(), &"v".repeat(9000)));
    let error = failed.filter_map(Result::err).next().unwrap();
    assert!(matches!(&error, Error::DiskFull { path, .. } if path.starts_with(&root)), "{error:?}");
    drop((lease, store));
    let store = Store::open(&root).unwrap();
    assert!(store.record(&Digest::of("k")).unwrap().is_none(), "reading works on a full disk");
    let swept = store.gc(&Sweep::default()).unwrap();
    assert_eq!(swept.blobs, image.len() as u64);
    assert_eq!((names(&store, "trash"), names(&store, "tmp")), (vec![], vec![]));
    assert!(root.join("reserve").exists(), "there is room for the next such day");
    fill(&store, &store.lease(), 0).unwrap();
}

fn fill(store: &Store, lease: &Lease, number: usize) -> Result<Digest, Error> {
    let staged = store.stage(lease)?;
    staged.commit(Snapshot::default())?;
    store.put_blob(format!("{number}").repeat(100_000).as_bytes(), lease)
}

/// Leaves no byte for the database, as other programs would.
fn fill_the_rest(root: &std::path::Path) {
    let mut file = fs::File::create(root.parent().unwrap().join("other")).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
}

#[test]
fn a_full_disk_is_named_and_can_be_collected() {
    let folder = tempfile::tempdir().unwrap();
    if !can_mount() {
        eprintln!("skipped a_full_disk_is_named_and_can_be_collected: needs root");
        return;
    }
    let test = child("space::on_a_small_disk", &folder.path().join("store"));
    let script = format!("mount -t tmpfs -o size=6m none {} && exec \"$@\"", folder.path().display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(test.get_program()).args(test.get_args());
    command.envs(test.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    assert!(command.arg0("unshare").status().unwrap().success());
}

fn can_mount() -> bool {
    let test = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    let can = test.is_ok_and(|status| status.success());
    assert!(can || std::env::var_os("KILN_TEST_NO_SKIP").is_none(), "needs root");
    can
}
