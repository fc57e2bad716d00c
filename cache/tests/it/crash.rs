//! `kill -9` of a process that writes.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use kiln_cache::{Diff, Digest, Label, LayerBlob, NewImage, Record, Snapshot, Store, Sweep, Swept};

use crate::support::{Running, content, names, new_store, root_of_child};

/// Small files of each snapshot, all of which must be there once it is visible.
const FILES: usize = 8;

/// The image that the writer makes again and again.
const NAME: &str = "docker.io/library/crash:latest";

/// Builds an image of three layers, over and over, in all the ways that the store offers.
#[test]
#[ignore = "the child of `nothing_half_made_is_visible_after_a_kill`"]
fn writer() {
    let Some(root) = root_of_child() else { return };
    for round in 0.. {
        let store = Store::open(&root).unwrap();
        build(&store, round);
        let chain = store.image_by_name(NAME).unwrap().unwrap().chain;
        assert!(store.pin("container:c", &chain).unwrap());
        if round % 7 == 3 {
            store.flush().unwrap();
        }
        if round % 2 == 1 {
            store.unpin("container:c").unwrap();
        }
        if round % 5 == 4 {
            store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
        }
    }
}

fn build(store: &Store, round: u64) {
    let lease = store.lease();
    let mut chain = Vec::new();
    for step in 0..3 {
        let staged = store.stage(&lease).unwrap();
        let id = staged.id();
        for number in 0..FILES {
            fs::write(staged.fs().join(format!("file{number}")), id.to_string()).unwrap();
        }
        chain.push(staged.commit(Snapshot { bytes: 1, ..Snapshot::default() }).unwrap());
        let diff = Diff { id: Digest::of(format!("{round} {step}")), tar_bytes: 1 };
        store.set_diff(&id, &diff).unwrap();
        let mut writer = store.blob_writer(&lease).unwrap();
        writer.write_all(format!("layer {}", round % 3).repeat(1000).as_bytes()).unwrap();
        let blob = writer.commit(None).unwrap();
        let blob = LayerBlob { digest: blob.digest, size: blob.size, media_type: "t".to_owned() };
        store.add_layer_blob(&diff.id, &blob).unwrap();
        let record = Record { result: diff.id, chain: chain.clone(), created: 0, parts: vec![] };
        store.put_record(&[Digest::of(format!("key {step}"))], &record, &Label::default()).unwrap();
    }
    let id = store.put_blob(format!("config {}", round % 2).as_bytes(), &lease).unwrap();
    store.put_image(&NewImage { id, manifest: None, chain, size: 1, created: 0 }).unwrap();
    store.tag(NAME, &id).unwrap();
}

/// Asserts that all that can be found is whole.
fn assert_whole(store: &Store) {
    assert_eq!(store.check_rows(true).unwrap().1, [], "what is pinned is there, too");
    let records = (0..3).filter_map(|step| store.record(&Digest::of(format!("key {step}"))).unwrap());
    let images = store.images().unwrap();
    for image in &images {
        assert!(store.read_blob(&image.id).unwrap().starts_with(b"config"));
    }
    for id in records.flat_map(|record| record.chain).chain(images.into_iter().flat_map(|image| image.chain))
    {
        for number in 0..FILES {
            let file = store.snapshot_dir(&id).join(format!("file{number}"));
            assert_eq!(fs::read_to_string(file).unwrap(), id.to_string());
        }
        let diff = store.diff(&id).unwrap();
        for blob in diff.iter().flat_map(|diff| store.layer_blobs(&diff.id).unwrap()) {
            assert_eq!(Digest::of(store.read_blob(&blob.digest).unwrap()), blob.digest);
        }
    }
}

#[test]
fn nothing_half_made_is_visible_after_a_kill() {
    let (_folder, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    for moment in 0..25 {
        let process = Running::start("crash::writer", &root);
        // The child needs some milliseconds to start; after that, each moment is as good as another.
        std::thread::sleep(Duration::from_micros(8_000 + moment * 1_337));
        process.kill();
        let store = Store::open(&root).unwrap();
        assert_whole(&store);
        if moment % 3 == 2 {
            store.gc(&Sweep::default()).unwrap();
            assert_whole(&store);
        }
        build(&store, moment);
    }
    let store = Store::open(&root).unwrap();
    store.unpin("container:c").unwrap();
    store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_whole(&store);
    assert_tidy(&store, &root);
    for image in store.images().unwrap() {
        store.remove_image(&image.id).unwrap();
    }
    store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_eq!((names(&store, "snapshots"), names(&store, "blobs/sha256")), (vec![], vec![]));
    assert_eq!(store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap(), Swept::default());
}

fn assert_tidy(store: &Store, root: &Path) {
    for folder in ["tmp", "trash", "leases", "pins"] {
        assert_eq!(names(store, folder), [""; 0], "{}", root.join(folder).display());
    }
}

/// Holds all that a process can hold, and waits for its end.
#[test]
#[ignore = "the child of `a_first_write_sweeps_what_a_killed_process_left`"]
fn holder() {
    let Some(root) = root_of_child() else { return };
    let store = Store::open(&root).unwrap();
    let lease = store.lease();
    let staged = store.stage(&lease).unwrap();
    fs::write(staged.fs().join("file"), "half").unwrap();
    let mut writer = store.blob_writer(&lease).unwrap();
    writer.write_all(b"half").unwrap();
    store.put_blob(b"held", &lease).unwrap();
    let folder = store.scratch_folder().unwrap();
    let _lock = store.try_lock_key(&Digest::of("key")).unwrap().unwrap();
    fs::write(root.join("ready"), folder.path().as_os_str().as_encoded_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_first_write_sweeps_what_a_killed_process_left() {
    let (_folder, store) = new_store();
    let process = Running::start("crash::holder", store.root());
    while !store.root().join("ready").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = crate::support::snapshot(&store, &store.lease(), "mine");
    store.gc(&Sweep::default()).unwrap();
    assert_eq!((names(&store, "tmp").len(), names(&store, "leases").len()), (3, 1), "it still lives");
    assert!(store.try_lock_key(&Digest::of("key")).unwrap().is_none());
    assert!(content(&store, &id).is_err(), "only the other process's things were kept");
    process.kill();
    assert!(store.try_lock_key(&Digest::of("key")).unwrap().is_some());
    let lease = store.lease();
    store.put_blob(b"first write", &lease).unwrap();
    assert_eq!((names(&store, "tmp").len(), names(&store, "leases").len()), (0, 1));
    store.flush().unwrap();
    assert_eq!(names(&store, "trash"), [""; 0]);
}
