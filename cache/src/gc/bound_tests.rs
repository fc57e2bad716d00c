//! What goes, in which order and why; and that what stays is what was asked for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::*;
use crate::record::{Found, Label, Record, RecordKind};
use crate::{CacheMountRequest, Digest, Lease, NewImage, Sharing, Snapshot};

const MB: usize = 1 << 20;

struct Fixture {
    _folder: tempfile::TempDir,
    store: Store,
    lease: Lease,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let lease = store.lease();
        Self { _folder: folder, store, lease }
    }

    /// A layer with a file of this many bytes.
    fn layer(&self, bytes: usize) -> SnapshotId {
        let staged = self.store.stage(&self.lease).unwrap();
        fs::write(staged.fs().join("file"), vec![7; bytes]).unwrap();
        staged.commit(Snapshot { bytes: bytes as u64, ..Snapshot::default() }).unwrap()
    }

    /// A layer of links to the file of `source`, and one file of its own.
    fn linked(&self, source: SnapshotId, bytes: usize) -> SnapshotId {
        let staged = self.store.stage(&self.lease).unwrap();
        let file = self.store.snapshot_dir(&source).join("file");
        fs::hard_link(&file, staged.fs().join("file")).unwrap();
        fs::write(staged.fs().join("own"), vec![7; bytes]).unwrap();
        let shared_bytes = fs::metadata(file).unwrap().len();
        let snapshot = Snapshot {
            bytes: shared_bytes + bytes as u64,
            shared_bytes,
            shared_with: Some(source),
            ..Snapshot::default()
        };
        staged.commit(snapshot).unwrap()
    }

    /// A record of a step that was used last `unused_for` seconds ago.
    fn step(&self, name: &str, chain: &[SnapshotId], unused_for: i64) -> Digest {
        self.step_of(RecordKind::Regular, name, chain, unused_for)
    }

    fn step_of(&self, kind: RecordKind, name: &str, chain: &[SnapshotId], unused_for: i64) -> Digest {
        let result = Digest::of(name);
        let record = Record { result, chain: chain.to_vec(), created: 0, parts: vec![] };
        let label = Label { kind, description: name.to_owned() };
        self.store.put_record(&[result], &record, &label).unwrap();
        let used = now() - unused_for;
        self.store.meta().write(|tx| tx.set_last_use(&result, used)).unwrap();
        result
    }

    /// The build is over.
    fn end(&mut self) {
        self.lease = self.store.lease();
    }

    fn names(&self) -> Vec<String> {
        let records = self.store.meta().read(|tx| tx.record_rows()).unwrap();
        let mut names: Vec<String> = records.into_iter().map(|record| record.description).collect();
        names.sort();
        names
    }

    fn prune(&self, rule: Rule<'_>) -> Vec<(String, Reason)> {
        let rules = [rule];
        let planned = told(&self.store.plan(&rules).unwrap());
        let (gone, _) = self.store.prune(&rules).unwrap();
        assert_eq!(told(&gone), planned, "what was told is what is done");
        assert_eq!(fs::read_dir(self.store.path("trash")).unwrap().count(), 0);
        planned
    }
}

fn told(doomed: &[Doomed]) -> Vec<(String, Reason)> {
    doomed.iter().map(|one| (one.entry.description.clone(), one.reason)).collect()
}

fn everything() -> Rule<'static> {
    Rule { matches: &|_| true, shared: false, internal: false, unused_for: 0, bounds: Bounds::default() }
}

/// `du -s`: what a folder takes, a file with several names once.
fn du(folder: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    bytes
}

fn reason_of(gone: &[(String, Reason)], name: &str) -> Option<Reason> {
    gone.iter().find(|(known, _)| known == name).map(|(_, reason)| *reason)
}

#[test]
fn a_quota_is_kept_within_5_percent() {
    for quota_mb in [60, 33, 12] {
        let mut fixture = Fixture::new();
        for step in 0..40 {
            let layer = fixture.layer((1 + step % 3) * MB);
            fixture.step(&format!("step {step}"), &[layer], 1000 - i64::try_from(step).unwrap());
        }
        let quota = quota_mb * MB as u64;
        fixture.end();
        let bounds = Bounds { max_used: quota, ..Bounds::default() };
        let gone = fixture.prune(Rule { bounds, ..everything() });
        assert!(gone.iter().all(|(_, reason)| *reason == Reason::OverQuota));
        let used = du(&fixture.store.path("snapshots"));
        assert!(
            used <= quota + quota / 20 && used >= quota - quota / 20 - 3 * MB as u64,
            "{used} of {quota}"
        );
        assert!(fixture.names().contains(&"step 39".to_owned()), "the latest stays");
    }
}

#[test]
fn shared_bytes_are_counted_once() {
    let mut fixture = Fixture::new();
    let mut source = fixture.layer(8 * MB);
    fixture.step("step 0", &[source], 100);
    for step in 1..12 {
        source = fixture.linked(source, MB / 2);
        fixture.step(&format!("step {step}"), &[source], 100 - step);
    }
    fixture.end();
    let snapshots = fixture.store.path("snapshots");
    let listed: u64 = fixture.store.usage().unwrap().entries.iter().map(|entry| entry.bytes).sum();
    assert!(du(&snapshots).abs_diff(listed) < MB as u64 / 2, "{} {listed}", du(&snapshots));
    let quota = 10 * MB as u64;
    let bounds = Bounds { max_used: quota, ..Bounds::default() };
    let gone = fixture.prune(Rule { bounds, ..everything() });
    assert!(gone.len() <= 9, "the large file is still there: only small ones were freed, {gone:?}");
    let used = du(&snapshots);
    assert!(used <= quota + quota / 20 && used + MB as u64 >= quota, "{used}");
    let listed: u64 = fixture.store.usage().unwrap().entries.iter().map(|entry| entry.bytes).sum();
    assert!(used.abs_diff(listed) <= quota / 20, "{used} {listed}");
}

#[test]
fn the_longest_unused_goes_first_and_children_before_their_parents() {
    let mut fixture = Fixture::new();
    let (a, b, c) = (fixture.layer(MB), fixture.layer(MB), fixture.layer(MB));
    fixture.step("old parent", &[a], 500);
    fixture.step("its child, used lately", &[a, b], 10);
    fixture.step("another", &[c], 100);
    fixture.end();
    let bounds = Bounds { max_used: 2 * MB as u64 + 100_000, ..Bounds::default() };
    let gone = fixture.prune(Rule { bounds, ..everything() });
    assert_eq!(told_names(&gone), ["another"], "a use of the child is one of the parent");
    let bounds = Bounds { max_used: MB as u64 + 100_000, ..Bounds::default() };
    let gone = fixture.prune(Rule { bounds, ..everything() });
    assert_eq!(told_names(&gone), ["its child, used lately"]);
    assert_eq!(fixture.names(), ["old parent"]);
}

fn told_names(gone: &[(String, Reason)]) -> Vec<&str> {
    gone.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn what_stands_on_a_thing_that_was_asked_for_goes_with_it() {
    let mut fixture = Fixture::new();
    let (a, b) = (fixture.layer(MB), fixture.layer(MB));
    fixture.step("parent", &[a], 0);
    fixture.step("child", &[a, b], 0);
    fixture.end();
    let is_parent = |entry: &Entry| entry.description == "parent";
    let gone = fixture.prune(Rule { matches: &is_parent, ..everything() });
    assert_eq!(gone, [("child".to_owned(), Reason::ParentGoes), ("parent".to_owned(), Reason::Asked)]);
    assert_eq!(du(&fixture.store.path("snapshots")), du_of_empty(&fixture));
    let found = fixture.store.find_record(&Digest::of("child")).unwrap();
    assert!(matches!(found, Some(Found::Collected { .. })), "{found:?}");
}

fn du_of_empty(fixture: &Fixture) -> u64 {
    fs::symlink_metadata(fixture.store.path("snapshots")).unwrap().blocks() * 512
}

#[test]
fn what_is_needed_stays_whatever_is_asked() {
    let mut fixture = Fixture::new();
    let (image, pinned, running, free) =
        (fixture.layer(MB), fixture.layer(MB), fixture.layer(MB), fixture.layer(MB));
    for (name, layer) in [("image", image), ("pinned", pinned), ("running", running), ("free", free)] {
        fixture.step(name, &[layer], 1000);
    }
    let config = fixture.store.put_blob(b"config", &fixture.lease).unwrap();
    let row = NewImage { id: config, manifest: None, chain: vec![image], size: 0, created: 0 };
    fixture.store.put_image(&row).unwrap();
    fixture.store.pin("container", &[pinned]).unwrap();
    fixture.end();
    let build = fixture.store.lease();
    build.hold(&[running]).unwrap();
    let gone = fixture.prune(everything());
    assert_eq!(gone, [("free".to_owned(), Reason::Asked)]);
    // With `--all` the record of an image's layer goes, and its files stay.
    let gone = fixture.prune(Rule { shared: true, internal: true, ..everything() });
    assert_eq!(gone, [("image".to_owned(), Reason::Asked)]);
    for layer in [image, pinned, running] {
        assert!(fixture.store.snapshot_dir(&layer).join("file").exists());
    }
    assert!(!fixture.store.snapshot_dir(&free).exists());
}

#[test]
fn the_default_policy_goes_by_kind_age_and_size() {
    let mut fixture = Fixture::new();
    let day = 24 * 3600;
    for (kind, name, unused_for) in [
        (RecordKind::Regular, "61 days", 61 * day),
        (RecordKind::Regular, "3 days", 3 * day),
        (RecordKind::GitCheckout, "checkout of 3 days", 3 * day),
        (RecordKind::GitCheckout, "checkout of a day", day),
    ] {
        let layer = fixture.layer(MB);
        fixture.step_of(kind, name, &[layer], unused_for);
    }
    fixture.end();
    let policy = Policy::for_disk(1 << 40);
    assert_eq!(policy.bounds.max_used, 100_000_000_000);
    fixture.store.keep_within(&policy).unwrap();
    assert_eq!(fixture.names(), ["3 days", "checkout of 3 days", "checkout of a day"]);
    // With little in the cache, sources may stay: make the cache look larger.
    let large = fixture.layer(MB);
    fixture.step("large", &[large], 0);
    fixture.store.meta().write(|tx| tx.set_disk(large, 600_000_000)).unwrap();
    fixture.end();
    let gone = told(&fixture.store.plan(&policy.rules()).unwrap());
    assert_eq!(told_names(&gone), ["checkout of 3 days"]);
    assert_eq!(reason_of(&gone, "checkout of 3 days"), Some(Reason::OverQuota));
}

#[test]
fn free_room_is_made_down_to_what_is_reserved() {
    let bounds = Bounds { reserved: 10, max_used: 100, min_free: 50 };
    assert_eq!(bounds.keep(80, 60), (100, Reason::OverQuota));
    assert_eq!(bounds.keep(80, 20), (50, Reason::DiskFull));
    assert_eq!(bounds.keep(80, 0), (30, Reason::DiskFull));
    assert_eq!(bounds.keep(40, 0), (10, Reason::DiskFull), "what is reserved stays");
    assert_eq!(Bounds { reserved: 5, ..Bounds::default() }.keep(80, 0).0, 5);
    assert_eq!(Bounds { min_free: 5, ..Bounds::default() }.keep(80, 9).0, u64::MAX);
}

#[test]
fn cache_mounts_are_listed_and_go_as_others_do() {
    let fixture = Fixture::new();
    let request = |name: &str| CacheMountRequest {
        id: Digest::of(name),
        name: name.to_owned(),
        sharing: Sharing::Shared,
    };
    let fill = |folder: &Path| -> Result<()> {
        fs::write(folder.join("file"), vec![1; MB]).unwrap();
        Ok(())
    };
    let used = fixture.store.try_cache_mount(&request("used")).unwrap().unwrap();
    used.folder(fill).unwrap();
    for _ in 0..3 {
        let free = fixture.store.try_cache_mount(&request("free")).unwrap().unwrap();
        free.folder(fill).unwrap();
    }
    let usage = fixture.store.usage().unwrap();
    let free = usage.entries.iter().find(|entry| entry.description.ends_with("free")).unwrap();
    assert!(free.bytes >= MB as u64 && free.mutable && !free.in_use && free.uses == 3);
    assert!(free.used >= now() - 60 && free.kind == RecordKind::CacheMount);
    assert_eq!(fixture.prune(everything()), [("cache mount free".to_owned(), Reason::Asked)]);
    assert_eq!(fixture.prune(everything()), [], "the other one is in use");
}

#[test]
fn a_prune_that_was_killed_is_completed_by_the_next_one() {
    let mut fixture = Fixture::new();
    let layers: Vec<SnapshotId> = (0..3).map(|_| fixture.layer(MB)).collect();
    for (number, layer) in layers.iter().enumerate() {
        fixture.step(&format!("step {number}"), &[*layer], 0);
    }
    fixture.end();
    // Killed after the records were marked, and after some files went to the trash.
    let row = fixture.store.meta().read(|tx| tx.record_rows()).unwrap()[0].row;
    fixture.store.meta().write(|tx| tx.collect_record(row, now())).unwrap();
    fixture.store.meta().write(|tx| tx.condemn_snapshot(layers[1])).unwrap();
    fixture.store.discard(&fixture.store.path("snapshots").join(layers[1].to_string())).unwrap();
    fixture.prune(everything());
    assert_eq!(du(&fixture.store.path("snapshots")), du_of_empty(&fixture));
}

#[test]
fn ten_thousand_records_are_pruned_in_the_order_of_their_use() {
    let fixture = Fixture::new();
    let layer = fixture.layer(10);
    fixture
        .store
        .meta()
        .write(|tx| {
            (0..10_000).try_for_each(|number| {
                let result = Digest::of(format!("step {number}"));
                let record = Record { result, chain: vec![layer], created: number, parts: vec![] };
                tx.put_record(&[result], &record, &Label::default(), number)
            })
        })
        .unwrap();
    let lease = fixture.store.lease();
    drop(fixture.lease);
    let (gone, _) = fixture.store.prune(&[everything()]).unwrap();
    assert_eq!(gone.len(), 10_000);
    assert!(gone.windows(2).all(|pair| pair[0].entry.used <= pair[1].entry.used));
    drop(lease);
}

#[test]
fn a_layer_without_a_record_goes_with_the_last_that_stands_on_it_and_is_told() {
    let mut fixture = Fixture::new();
    let (old, top, lost) = (fixture.layer(MB), fixture.layer(MB), fixture.layer(MB));
    fixture.step("step", &[old, top], 0);
    fixture.end();
    let gone = fixture.prune(everything());
    let layer = |text: &str| format!("layer {text}");
    let expected = [
        (layer("that nothing leads to"), Reason::Unreached),
        ("step".to_owned(), Reason::Asked),
        (layer("below others"), Reason::Unreached),
    ];
    assert_eq!(gone, expected);
    assert!([old, top, lost].iter().all(|id| !fixture.store.snapshot_dir(id).exists()));
}
