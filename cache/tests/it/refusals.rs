//! Damage, foreign folders and missing things.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use kiln_cache::{Digest, Error, Label, NewImage, SnapshotId, Store, Sweep};

use crate::support::{names, new_store, record, snapshot};

#[test]
fn a_store_of_another_format_is_refused_by_name_and_left_alone() {
    let (_folder, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    fs::write(root.join("version"), "kiln store 4\n").unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(&error, Error::UnknownVersion { found, .. } if found == "kiln store 4"));
    assert!(error.to_string().contains(root.to_str().unwrap()));
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "kiln store 4\n");
}

#[test]
fn a_folder_with_other_files_does_not_become_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "").unwrap();
    assert!(
        matches!(Store::open(folder.path()), Err(Error::NotAStore { other, .. }) if other == "thesis.txt")
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_everybody_could_enter_is_closed_when_it_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    Store::open(folder.path()).unwrap();
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_root_that_is_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("file");
    fs::write(&root, "").unwrap();
    assert!(Store::open(&root).unwrap_err().to_string().contains(root.to_str().unwrap()));
}

#[test]
fn an_interrupted_creation_is_completed() {
    let (_folder, store) = new_store();
    let root = store.root().to_owned();
    let digest = store.put_blob(b"b", &store.lease()).unwrap();
    drop(store);
    // As if the process had been killed before its last step; what is there must not be lost.
    fs::remove_file(root.join("version")).unwrap();
    fs::write(root.join("version.new"), "kiln st").unwrap();
    assert_eq!(Store::open(&root).unwrap().read_blob(&digest).unwrap(), b"b");
}

#[test]
fn a_damaged_database_is_named() {
    let (_folder, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    fs::remove_file(root.join("meta.db-wal")).unwrap();
    fs::write(root.join("meta.db"), "not a database, but long enough to have a header".repeat(100)).unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(&error, Error::Database { path, .. } if *path == root.join("meta.db")), "{error:?}");
}

#[test]
fn a_missing_database_is_an_error_and_no_new_store() {
    let (_folder, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    fs::remove_file(root.join("meta.db")).unwrap();
    assert!(Store::open(&root).is_err());
    assert!(!root.join("meta.db").exists());
}

#[test]
fn other_bytes_than_promised_leave_nothing() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let mut writer = store.blob_writer(&lease).unwrap();
    writer.write_all(b"evil").unwrap();
    let expected = Digest::of("good");
    let error = writer.commit(Some(&expected)).unwrap_err();
    assert!(
        matches!(error, Error::DigestMismatch { expected: e, actual } if e == expected && actual == Digest::of("evil"))
    );
    assert_eq!(store.blob_size(&expected).unwrap(), None);
    assert_eq!(store.blob_size(&Digest::of("evil")).unwrap(), None);
    assert_eq!((names(&store, "tmp"), names(&store, "blobs/sha256")), (vec![], vec![]));
}

#[test]
fn a_damaged_blob_is_reported_and_can_be_fetched_again() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let digest = store.put_blob(b"config", &lease).unwrap();
    let path = store.root().join("blobs/sha256").join(digest.hex());
    fs::write(&path, "c0nfig").unwrap();
    assert!(matches!(store.read_blob(&digest), Err(Error::DamagedBlob { path: p, .. }) if p == path));
    assert_eq!(store.blob_size(&digest).unwrap(), None);
    assert!(matches!(store.read_blob(&digest), Err(Error::NoBlob { .. })));
    store.put_blob(b"config", &lease).unwrap();
    assert_eq!(store.read_blob(&digest).unwrap(), b"config");
    store.gc(&Sweep::default()).unwrap();
    assert_eq!(store.read_blob(&digest).unwrap(), b"config", "born again before the collector came");
}

#[test]
fn a_cut_or_lost_blob_counts_as_absent_and_can_be_fetched_again() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let digest = store.put_blob(b"config", &lease).unwrap();
    let path = store.root().join("blobs/sha256").join(digest.hex());
    for damage in [&(|| fs::write(&path, "con").unwrap()) as &dyn Fn(), &|| fs::remove_file(&path).unwrap()] {
        damage();
        assert_eq!(store.blob_size(&digest).unwrap(), None);
        assert!(!lease.hold_blobs(&[digest]).unwrap());
        store.put_blob(b"config", &lease).unwrap();
        assert_eq!(store.read_blob(&digest).unwrap(), b"config");
    }
}

#[test]
fn what_names_missing_things_is_not_kept() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let gone: SnapshotId = "0123456789abcdef".parse().unwrap();
    let (there, key) = (snapshot(&store, &lease, "1"), Digest::of("k"));
    let refused = store.put_record(&[key], &record(&[there, gone]), &Label::default());
    assert!(matches!(refused, Err(Error::NoSnapshot { id }) if id == gone));
    assert_eq!(store.record(&key).unwrap(), None);
    let image = NewImage { id: Digest::of("c"), manifest: None, chain: vec![there], size: 0, created: 0 };
    assert!(matches!(store.put_image(&image), Err(Error::NoBlob { .. })));
    assert!(matches!(store.tag("name", &image.id), Err(Error::NoImage { .. })));
    assert!(matches!(store.add_repo_digest("name@d", &image.id), Err(Error::NoImage { .. })));
    assert!(!store.pin("owner", &[there, gone]).unwrap() && !lease.hold(&[there, gone]).unwrap());
    assert!(matches!(store.diff(&gone), Err(Error::NoSnapshot { .. })));
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn files_that_no_row_knows_are_collected() {
    let (_folder, store) = new_store();
    let kept = store.put_blob(b"b", &store.lease()).unwrap();
    let lease = store.lease();
    lease.hold_blobs(&[kept]).unwrap();
    fs::create_dir_all(store.root().join("snapshots/00000000000000aa/fs")).unwrap();
    fs::write(store.root().join("blobs/sha256/zz"), "").unwrap();
    store.gc(&Sweep::default()).unwrap();
    assert_eq!((names(&store, "snapshots"), names(&store, "blobs/sha256")), (vec![], vec![kept.hex()]));
}
