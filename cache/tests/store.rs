//! The store as its users see it.
#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use std::fs;
use std::io::{Read as _, Write as _};

use kiln_cache::{Diff, Digest, LayerBlob, Lease, NewImage, Record, Snapshot, SnapshotId, Store, Sweep};

fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn snapshot(store: &Store, lease: &Lease, content: &str) -> SnapshotId {
    let staged = store.stage(lease).unwrap();
    fs::write(staged.fs().join("file"), content).unwrap();
    staged.commit(Snapshot { bytes: content.len() as u64, created: 7, diff: None }).unwrap()
}

fn record(chain: &[SnapshotId]) -> Record {
    let parts = vec![("args".to_owned(), "true".to_owned())];
    Record { result: Digest::of("result"), chain: chain.to_vec(), created: 5, parts }
}

#[test]
fn a_blob_is_read_back_as_it_was_written() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let digest = store.put_blob(b"hello", &lease).unwrap();
    assert_eq!(store.read_blob(&digest).unwrap(), b"hello");
    assert_eq!(store.blob_size(&digest).unwrap(), Some(5));
    let mut text = String::new();
    store.open_blob(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let mut writer = store.blob_writer(&lease).unwrap();
    writer.write_all(b"more").unwrap();
    assert_eq!(writer.commit(Some(&Digest::of("more"))).unwrap().size, 4);
}

#[test]
fn a_committed_snapshot_keeps_its_files_and_its_diff() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let id = snapshot(&store, &lease, "one");
    assert_eq!(fs::read_to_string(store.snapshot_dir(&id).join("file")).unwrap(), "one");
    assert_eq!(store.snapshot_bytes(&id).unwrap(), 3);
    assert_eq!(store.diff(&id).unwrap(), None);
    let diff = Diff { id: Digest::of("tar"), tar_bytes: 1024 };
    store.set_diff(&id, &diff).unwrap();
    assert_eq!(store.diff(&id).unwrap(), Some(diff));
    assert_eq!(store.layer_snapshot(&diff.id).unwrap(), Some(id));
    let blob = LayerBlob { digest: Digest::of("gz"), size: 9, media_type: "m".to_owned() };
    store.add_layer_blob(&diff.id, &blob).unwrap();
    assert_eq!(store.layer_blobs(&diff.id).unwrap(), [blob]);
}

#[test]
fn an_overlay_lists_the_topmost_layer_first() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let (base, top) = (snapshot(&store, &lease, "1"), snapshot(&store, &lease, "2"));
    let staged = store.stage(&lease).unwrap();
    let mounts = store.overlay(&[base, top], Some(&staged));
    assert_eq!(mounts.lowers, [store.snapshot_dir(&top), store.snapshot_dir(&base)]);
    assert_eq!((mounts.upper, mounts.work), (Some(staged.fs()), Some(staged.work())));
    let nothing = store.overlay(&[], None);
    assert!(nothing.lowers.iter().all(|folder| folder.is_dir()) && nothing.lowers.len() == 1);
}

#[test]
fn a_record_is_found_under_each_of_its_keys() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let chain = [snapshot(&store, &lease, "1")];
    let (cheap, content) = (Digest::of("cheap"), Digest::of("content"));
    assert_eq!(store.record(&cheap).unwrap(), None);
    store.put_record(&[cheap, content], &record(&chain)).unwrap();
    for key in [cheap, content] {
        assert_eq!(store.record(&key).unwrap(), Some(record(&chain)));
    }
    store.put_note("etag", "http://x", "abc").unwrap();
    assert_eq!(store.note("etag", "http://x").unwrap().as_deref(), Some("abc"));
}

#[test]
fn an_image_is_found_by_name_digest_and_prefix() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let chain = vec![snapshot(&store, &lease, "1")];
    let id = store.put_blob(b"{}", &lease).unwrap();
    store.put_image(&NewImage { id, manifest: None, chain: chain.clone(), size: 1, created: 2 }).unwrap();
    let (name, by_digest) = ("docker.io/library/a:latest", "docker.io/library/a@sha256:1");
    assert_eq!(store.tag(name, &id).unwrap(), None);
    assert_eq!(store.tag(name, &id).unwrap(), Some(id));
    store.add_repo_digest(by_digest, &id).unwrap();
    let image = store.image(&id).unwrap().unwrap();
    assert_eq!((&image.chain, &image.names), (&chain, &vec![name.to_owned()]));
    for found in [store.image_by_name(name), store.image_by_name(by_digest)] {
        assert_eq!(found.unwrap().as_ref(), Some(&image));
    }
    assert_eq!(store.images_by_prefix(&id.hex()[..4]).unwrap(), std::slice::from_ref(&image));
    assert_eq!(store.images_by_prefix("%").unwrap(), []);
    assert_eq!(store.images().unwrap(), [image]);
    assert!(store.untag(name).unwrap() && !store.untag(name).unwrap());
    assert!(store.remove_image(&id).unwrap());
    assert_eq!(store.image_by_name(by_digest).unwrap(), None);
}

#[test]
fn the_collector_takes_what_nothing_names_and_leaves_the_rest() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let (kept, recorded, loose) = (
        snapshot(&store, &lease, "kept"),
        snapshot(&store, &lease, "rec"),
        snapshot(&store, &lease, "loose"),
    );
    let id = store.put_blob(b"{}", &lease).unwrap();
    store.put_blob(b"unused", &lease).unwrap();
    store.put_image(&NewImage { id, manifest: None, chain: vec![kept], size: 1, created: 2 }).unwrap();
    store.put_record(&[Digest::of("k")], &record(&[kept, recorded])).unwrap();
    assert_eq!(store.gc(&Sweep::default()).unwrap(), Default::default(), "all is leased");
    drop(lease);
    let swept = store.gc(&Sweep::default()).unwrap();
    assert_eq!((swept.snapshots, swept.blobs, swept.records, swept.bytes), (1, 1, 0, 11));
    assert!(!store.snapshot_dir(&loose).exists() && store.snapshot_dir(&recorded).exists());
    let swept = store.gc(&Sweep { records: true }).unwrap();
    assert_eq!((swept.snapshots, swept.records), (1, 1));
    assert!(store.snapshot_dir(&kept).exists());
    assert_eq!(store.read_blob(&id).unwrap(), b"{}");
}
