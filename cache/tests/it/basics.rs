//! One process and its store.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use kiln_cache::{Diff, Digest, Label, LayerBlob, NewImage, Store, Sweep, Swept, VerifyingReader};

use crate::support::{content, names, new_store, record, snapshot};

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
fn a_view_shows_one_state_of_the_store_to_its_thread() {
    let (_folder, store) = new_store();
    store.put_note("kind", "key", "before").unwrap();
    let note = || store.note("kind", "key").unwrap().unwrap();
    let view = store.view().unwrap();
    assert_eq!(note(), "before");
    store.put_note("kind", "key", "after").unwrap();
    assert_eq!(note(), "before", "what is written meanwhile isn't seen");
    std::thread::scope(|scope| {
        let other = || {
            let _no_second_view = store.view().unwrap();
            assert_eq!(note(), "after", "another thread sees what is so");
        };
        scope.spawn(other).join().unwrap();
    });
    assert_eq!(note(), "before", "nor does the other one end this view");
    drop(view);
    assert_eq!(note(), "after");
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
    let twice = store.overlay(&[base, top, base], None);
    assert_eq!(
        twice.lowers,
        [store.snapshot_dir(&base), store.snapshot_dir(&top)],
        "the topmost of equal ones"
    );
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
    store.put_record(&[cheap, content], &record(&chain), &Label::default()).unwrap();
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
    store.put_record(&[Digest::of("k")], &record(&[kept, recorded]), &Label::default()).unwrap();
    assert_eq!(store.gc(&Sweep::default()).unwrap(), Swept::default(), "all is leased");
    drop(lease);
    let swept = store.gc(&Sweep::default()).unwrap();
    assert_eq!((swept.snapshots, swept.blobs, swept.records, swept.bytes), (1, 1, 0, 11));
    assert!(!store.snapshot_dir(&loose).exists() && store.snapshot_dir(&recorded).exists());
    let swept = store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_eq!((swept.snapshots, swept.records), (1, 1));
    assert!(store.snapshot_dir(&kept).exists());
    assert_eq!(store.read_blob(&id).unwrap(), b"{}");
}

#[test]
fn a_chain_that_a_container_pins_outlives_its_image() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let (base, top) = (snapshot(&store, &lease, "1"), snapshot(&store, &lease, "2"));
    assert!(store.pin("container", &[base, top]).unwrap());
    drop(lease);
    assert_eq!(store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap(), Swept::default());
    store.unpin("container").unwrap();
    assert_eq!(store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap().snapshots, 2);
    assert!(!store.pin("container", &[base]).unwrap(), "gone is gone");
}

#[test]
fn the_blobs_of_an_image_and_of_its_layers_outlive_the_build() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let id = snapshot(&store, &lease, "1");
    let diff = Diff { id: Digest::of("tar"), tar_bytes: 3 };
    store.set_diff(&id, &diff).unwrap();
    let (config, manifest) = (store.put_blob(b"c", &lease).unwrap(), store.put_blob(b"m", &lease).unwrap());
    let layer = LayerBlob { digest: store.put_blob(b"l", &lease).unwrap(), size: 1, media_type: "t".into() };
    store.add_layer_blob(&diff.id, &layer).unwrap();
    store
        .put_image(&NewImage { id: config, manifest: Some(manifest), chain: vec![id], size: 1, created: 0 })
        .unwrap();
    drop(lease);
    assert_eq!(store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap(), Swept::default());
    store.remove_image(&config).unwrap();
    let swept = store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_eq!((swept.snapshots, swept.blobs), (1, 3));
    assert_eq!(store.layer_blobs(&diff.id).unwrap(), []);
}

#[test]
fn records_of_an_images_own_steps_survive_a_sweep_of_records() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let (base, top, other) =
        (snapshot(&store, &lease, "1"), snapshot(&store, &lease, "2"), snapshot(&store, &lease, "3"));
    for (key, chain) in [("base", vec![base]), ("top", vec![base, top]), ("other", vec![base, other])] {
        store.put_record(&[Digest::of(key)], &record(&chain), &Label::default()).unwrap();
    }
    let id = store.put_blob(b"c", &lease).unwrap();
    store.put_image(&NewImage { id, manifest: None, chain: vec![base, top], size: 1, created: 0 }).unwrap();
    drop(lease);
    let swept = store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_eq!((swept.records, swept.snapshots), (1, 1));
    for (key, kept) in [("base", true), ("top", true), ("other", false)] {
        assert_eq!(store.record(&Digest::of(key)).unwrap().is_some(), kept, "{key}");
    }
}

#[test]
fn a_hit_returns_the_chain_that_it_was_made_on() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let (old, child) = (snapshot(&store, &lease, "old"), snapshot(&store, &lease, "child"));
    let (parent_key, child_key) = (Digest::of("parent"), Digest::of("child"));
    store.put_record(&[parent_key], &record(&[old]), &Label::default()).unwrap();
    store.put_record(&[child_key], &record(&[old, child]), &Label::default()).unwrap();
    let new = snapshot(&store, &lease, "new");
    store.put_record(&[parent_key], &record(&[new]), &Label::default()).unwrap();
    drop(lease);
    store.gc(&Sweep::default()).unwrap();
    assert_eq!(store.record(&child_key).unwrap().unwrap().chain, [old, child]);
    assert_eq!(content(&store, &old).unwrap(), "old");
}

#[test]
fn a_lease_holds_what_is_there_and_says_what_is_gone() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let id = snapshot(&store, &lease, "1");
    let blob = store.put_blob(b"b", &lease).unwrap();
    let other = store.lease();
    assert!(other.hold(&[id]).unwrap() && other.hold_blobs(&[blob]).unwrap());
    drop(lease);
    assert_eq!(store.gc(&Sweep::default()).unwrap(), Swept::default());
    drop(other);
    store.gc(&Sweep::default()).unwrap();
    let late = store.lease();
    assert!(!late.hold(&[id]).unwrap() && !late.hold_blobs(&[blob]).unwrap());
}

#[test]
fn a_build_that_changes_nothing_writes_nothing() {
    let (folder, store) = new_store();
    let lease = store.lease();
    let (id, key) = (snapshot(&store, &lease, "1"), Digest::of("k"));
    store.put_record(&[key], &record(&[id]), &Label::default()).unwrap();
    let config = store.put_blob(b"c", &lease).unwrap();
    let image = NewImage { id: config, manifest: None, chain: vec![id], size: 1, created: 0 };
    store.put_image(&image).unwrap();
    store.tag("n", &config).unwrap();
    store.put_note("k", "k", "v").unwrap();
    drop((lease, store));
    let before = listing(&folder.path().join("store"));
    let store = Store::open(&folder.path().join("store")).unwrap();
    let lease = store.lease();
    assert_eq!(store.record(&key).unwrap().unwrap().chain, [id]);
    assert_eq!(store.read_blob(&config).unwrap(), b"c");
    assert!(store.image_by_name("n").unwrap().is_some());
    store.put_record(&[key], &record(&[id]), &Label::default()).unwrap();
    store.put_image(&image).unwrap();
    store.tag("n", &config).unwrap();
    store.put_note("k", "k", "v").unwrap();
    drop((lease, store));
    assert_eq!(listing(&folder.path().join("store")), before);
}

/// Every file with its size, inode and times; without SQLite's shared memory, which a reader makes anew.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if path.extension().is_none_or(|extension| extension != "db-shm") {
            // Not ctime: SQLite gives its log to the database's owner whenever root opens it.
            let (seconds, rest) = (metadata.mtime(), metadata.mtime_nsec());
            lines.push(format!("{} {} {} {seconds}.{rest}", path.display(), metadata.len(), metadata.ino()));
        }
        if metadata.is_dir() {
            lines.extend(listing(&path));
        }
    }
    lines.sort();
    lines
}

#[test]
fn what_was_not_committed_was_never_there() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let staged = store.stage(&lease).unwrap();
    fs::create_dir_all(staged.fs().join("a/b")).unwrap();
    let id = staged.id();
    assert!(!lease.hold(&[id]).unwrap() && store.snapshot_bytes(&id).is_err());
    drop(staged);
    let mut writer = store.blob_writer(&lease).unwrap();
    writer.write_all(b"partial").unwrap();
    drop(writer);
    drop((store.scratch().unwrap(), store.scratch_folder().unwrap()));
    assert_eq!(names(&store, "tmp"), [""; 0]);
    // What was out of sight at once is removed where nobody waits.
    assert!(store.needs_flush().unwrap());
    store.flush().unwrap();
    for folder in ["tmp", "snapshots", "blobs/sha256", "trash"] {
        assert_eq!(names(&store, folder), [""; 0], "{folder}");
    }
}

#[test]
fn the_root_of_a_snapshot_looks_the_same_under_any_umask() {
    let (_folder, store) = new_store();
    let id = snapshot(&store, &store.lease(), "1");
    let mode = fs::metadata(store.snapshot_dir(&id)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let root = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(root & 0o7777, 0o700, "nobody else looks into a store");
}

#[test]
fn a_stream_that_differs_fails_at_its_end_and_again() {
    let mut reader = VerifyingReader::new(&b"hello"[..], Digest::of("other"));
    let mut bytes = Vec::new();
    assert!(reader.read_to_end(&mut bytes).is_err());
    assert!(reader.read_to_end(&mut bytes).is_err());
    VerifyingReader::new(&b"hello"[..], Digest::of("hello")).read_to_end(&mut bytes).unwrap();
}

#[test]
fn trees_deeper_than_a_path_or_the_open_files_allow_are_removed() {
    let (_folder, store) = new_store();
    let lease = store.lease();
    let staged = store.stage(&lease).unwrap();
    // Each level is made by a rename, since no path could name the deepest one.
    let (top, next) = (staged.fs().join("down"), staged.fs().join("next"));
    fs::create_dir(&top).unwrap();
    for _ in 0..1100 {
        fs::create_dir(&next).unwrap();
        fs::rename(&top, next.join("down")).unwrap();
        fs::rename(&next, &top).unwrap();
    }
    fs::create_dir(staged.fs().join("sealed")).unwrap();
    fs::write(staged.fs().join("sealed/file"), "").unwrap();
    fs::set_permissions(staged.fs().join("sealed"), fs::Permissions::from_mode(0o500)).unwrap();
    drop(staged);
    store.flush().unwrap();
    assert_eq!((names(&store, "tmp"), names(&store, "trash")), (vec![], vec![]));
}
