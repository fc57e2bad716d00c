//! Several processes and threads on one store.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use kiln_cache::{Digest, Error, Label, NewImage, SnapshotId, Store, Sweep};

use crate::support::{Running, content, names, new_store, record, root_of_child, snapshot};

const KEYS: u64 = 12;

#[test]
fn a_new_root_may_be_opened_by_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let root = folder.path().join(format!("store{round}"));
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for number in 0..8 {
                let (root, start) = (&root, &start);
                scope.spawn(move || {
                    start.wait();
                    let store = Store::open(root).unwrap();
                    store.put_note("opened", &number.to_string(), "yes").unwrap();
                });
            }
        });
        let store = Store::open(&root).unwrap();
        assert!((0..8).all(|number| store.note("opened", &number.to_string()).unwrap().is_some()));
    }
}

/// Solves each key as a build does, and notes which ones it had to run.
#[test]
#[ignore = "the child of `two_builds_at_the_same_moment_run_each_step_once`"]
fn builder() {
    let Some(root) = root_of_child() else { return };
    let store = Store::open(&root).unwrap();
    for number in 0..KEYS {
        solve(&store, &Digest::of(format!("step {number}")), || {
            let mut log = OpenOptions::new().append(true).open(root.join("ran")).unwrap();
            writeln!(log, "{number}").unwrap();
            thread::sleep(Duration::from_millis(5));
        });
    }
}

/// Look up, lock, look up again, run, commit.
fn solve(store: &Store, key: &Digest, run: impl FnOnce()) -> SnapshotId {
    let lease = store.lease();
    let hit = || {
        let record = store.record(key).unwrap()?;
        lease.hold(&record.chain).unwrap().then(|| record.chain[0])
    };
    loop {
        if let Some(id) = hit() {
            return id;
        }
        let Some(_lock) = store.try_lock_key(key).unwrap() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if let Some(id) = hit() {
            return id;
        }
        run();
        let id = snapshot(store, &lease, &key.hex());
        store.put_record(&[*key], &record(&[id]), &Label::default()).unwrap();
        return id;
    }
}

#[test]
fn two_builds_at_the_same_moment_run_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    drop(Store::open(&root).unwrap());
    fs::write(root.join("ran"), "").unwrap();
    let children: Vec<_> = (0..4).map(|_| Running::start("races::builder", &root)).collect();
    children.into_iter().for_each(Running::finish);
    let ran = fs::read_to_string(root.join("ran")).unwrap();
    assert_eq!(ran.lines().count() as u64, KEYS, "{ran}");
}

/// Finds or makes things while the collector runs, and asserts that what it holds stays.
fn build_beside_a_collector(root: &Path, rounds: u64) {
    let store = Store::open(root).unwrap();
    for round in 0..rounds {
        let key = Digest::of(format!("shared {}", round % 4));
        let lease = store.lease();
        let record_of_key = store.record(&key).unwrap();
        let id = match record_of_key {
            Some(record) if lease.hold(&record.chain).unwrap() => record.chain[0],
            _ => {
                let id = snapshot(&store, &lease, "whole");
                store.put_record(&[key], &record(&[id]), &Label::default()).unwrap();
                id
            }
        };
        let config = store.put_blob(format!("config {}", round % 3).as_bytes(), &lease).unwrap();
        thread::yield_now();
        assert_eq!(content(&store, &id).unwrap(), "whole", "a held snapshot went");
        assert_eq!(Digest::of(store.read_blob(&config).unwrap()), config, "a held blob went");
        store
            .put_image(&NewImage { id: config, manifest: None, chain: vec![id], size: 1, created: 0 })
            .unwrap();
        match store.tag("name", &config) {
            Ok(_) | Err(Error::NoImage { .. }) => {} // another thread removed it, as the next line does
            Err(error) => panic!("{error}"),
        }
        if round % 2 == 1 {
            store.remove_image(&config).unwrap();
        }
    }
}

/// Pins what is there and lets all else go that keeps it, and asserts that it stays.
fn pin_beside_a_collector(root: &Path, owner: &str, rounds: u64) {
    let store = Store::open(root).unwrap();
    let mut pinned = 0;
    for _ in 0..rounds {
        let lease = store.lease();
        let chain = [snapshot(&store, &lease, "base"), snapshot(&store, &lease, "whole")];
        drop(lease);
        // The collector may have been quicker.
        if store.pin(owner, &chain).unwrap() {
            for _ in 0..4 {
                thread::sleep(Duration::from_micros(500));
                assert_eq!(content(&store, &chain[0]).unwrap(), "base", "a pinned snapshot went");
                assert_eq!(content(&store, &chain[1]).unwrap(), "whole", "a pinned snapshot went");
            }
            pinned += 1;
        }
        store.unpin(owner).unwrap();
    }
    assert!(pinned > 0);
}

#[test]
#[ignore = "the child of `a_collector_beside_builds_and_containers_takes_nothing_that_they_hold`"]
fn collector() {
    let Some(root) = root_of_child() else { return };
    let store = Store::open(&root).unwrap();
    while !root.join("stop").exists() {
        store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    }
}

#[test]
fn a_collector_beside_builds_and_containers_takes_nothing_that_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    drop(Store::open(&root).unwrap());
    let collectors: Vec<_> = (0..2).map(|_| Running::start("races::collector", &root)).collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| build_beside_a_collector(&root, 150));
        }
        for owner in ["container:a", "container:b"] {
            scope.spawn(|| pin_beside_a_collector(&root, owner, 100));
        }
    });
    fs::write(root.join("stop"), "").unwrap();
    collectors.into_iter().for_each(Running::finish);
    let store = Store::open(&root).unwrap();
    for image in store.images().unwrap() {
        store.remove_image(&image.id).unwrap();
    }
    store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    assert_eq!((names(&store, "snapshots"), names(&store, "blobs/sha256")), (vec![], vec![]));
    assert_eq!((names(&store, "tmp"), names(&store, "leases")), (vec![], vec![]));
}

#[test]
fn a_collector_runs_while_others_have_the_store_open() {
    let (_folder, store) = new_store();
    let other = Store::open(store.root()).unwrap();
    let lease = other.lease();
    let staged = other.stage(&lease).unwrap();
    let loose = snapshot(&store, &store.lease(), "loose");
    assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
    assert!(!store.snapshot_dir(&loose).exists() && staged.fs().is_dir());
}

#[test]
fn a_key_is_locked_by_one_at_a_time_and_its_file_stays() {
    let (_folder, store) = new_store();
    let key = Digest::of("k");
    let lock = store.try_lock_key(&key).unwrap().unwrap();
    assert!(store.try_lock_key(&key).unwrap().is_none(), "not even by the same process");
    assert!(Store::open(store.root()).unwrap().try_lock_key(&key).unwrap().is_none());
    drop(lock);
    assert!(store.try_lock_key(&key).unwrap().is_some());
    assert_eq!(names(&store, "inflight"), [&key.hex()[..3]]);
}
