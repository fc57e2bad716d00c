//! Tests of the stat cache.

use proptest::prelude::*;

use super::*;

const BOOT: &str = "3f1c2d64-0000-4000-8000-00000000beef";

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fs::create_dir(folder.path().join("context")).unwrap();
        Self { folder, store }
    }

    /// A cache that trusts all files, whatever kernel and filesystem run the test.
    fn load(&self) -> StatCache {
        let mut cache = StatCache::load(&self.store, &self.directory());
        cache.trust = Trust::AtOnce { dev: 1 };
        cache
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn file(&self) -> PathBuf {
        self.load().path
    }
}

fn stat(ino: u64) -> FileStat {
    FileStat { dev: 1, ino, size: 3, mode: 0o100644, uid: 0, gid: 0, mtime_ns: 5, ctime_ns: 6 }
}

/// The file of `entries`.
fn encoded(entries: &[Entry<'_>]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    format::write(file.as_file(), BOOT, entries.len(), |number| entries.get(number).copied()).unwrap();
    fs::read(file.path()).unwrap()
}

#[test]
fn an_untouched_file_is_found_in_the_next_build() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("a/b"), &stat(1), Digest::of("1"));
    cache.save().unwrap();
    let cache = fixture.load();
    assert_eq!(cache.get(Path::new("a/b"), &stat(1)), Some(Digest::of("1")));
    assert_eq!(cache.get(Path::new("a"), &stat(1)), None);
}

#[test]
fn each_field_of_a_stat_counts() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("a"), &stat(1), Digest::of("1"));
    cache.save().unwrap();
    let (cache, same) = (fixture.load(), stat(1));
    for other in [
        FileStat { dev: 2, ..same },
        FileStat { ino: 2, ..same },
        FileStat { size: 2, ..same },
        FileStat { mode: 2, ..same },
        FileStat { uid: 2, ..same },
        FileStat { gid: 2, ..same },
        FileStat { mtime_ns: 2, ..same },
        FileStat { ctime_ns: 2, ..same },
    ] {
        assert_eq!(cache.get(Path::new("a"), &other), None, "{other:?}");
    }
}

#[test]
fn a_cut_or_changed_file_is_an_empty_cache() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("a"), &stat(1), Digest::of("1"));
    cache.save().unwrap();
    let good = fs::read(fixture.file()).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    for place in 0..good.len() {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        damaged.push(bytes);
    }
    damaged.push(vec![0; good.len()]);
    damaged.push([good.clone(), vec![0]].concat());
    for bytes in damaged {
        fs::write(fixture.file(), &bytes).unwrap();
        assert_eq!(fixture.load().saved.len(), 0, "{bytes:?}");
    }
}

#[test]
fn another_boot_empties_the_cache() {
    let bytes = encoded(&[Entry { path: b"a", stat: stat(1), digest: Digest::of("1"), age: 0 }]);
    assert!(Table::decode(bytes.clone(), BOOT).is_some());
    assert!(Table::decode(bytes, "3f1c2d64-0000-4000-8000-00000000dead").is_none());
}

#[test]
fn the_collector_removes_the_caches_of_other_boots() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("a"), &stat(1), Digest::of("1"));
    cache.save().unwrap();
    let old = fixture.store.path("stat").join("old");
    fs::write(&old, encoded(&[])).unwrap();
    fixture.store.gc(&crate::Sweep::default()).unwrap();
    assert!(fixture.file().exists() && !old.exists());
}

#[test]
fn a_build_without_changes_writes_nothing() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("a"), &stat(1), Digest::of("1"));
    cache.save().unwrap();
    let inode = fs::metadata(fixture.file()).unwrap().ino();
    let cache = fixture.load();
    cache.get(Path::new("a"), &stat(1)).unwrap();
    cache.save().unwrap();
    assert_eq!(fs::metadata(fixture.file()).unwrap().ino(), inode);
}

#[test]
fn entries_that_nobody_asks_for_go_after_some_saves() {
    let fixture = Fixture::new();
    let cache = fixture.load();
    cache.put(Path::new("asked"), &stat(1), Digest::of("1"));
    cache.put(Path::new("other"), &stat(2), Digest::of("2"));
    cache.save().unwrap();
    for round in 0..=MAX_AGE {
        assert_eq!(fixture.load().saved.len(), if round == 0 { 2 } else { 3 });
        let cache = fixture.load();
        cache.get(Path::new("asked"), &stat(1)).unwrap();
        cache.put(Path::new("changing"), &stat(u64::from(round)), Digest::of("3"));
        cache.save().unwrap();
    }
    let cache = fixture.load();
    assert!(cache.get(Path::new("asked"), &stat(1)).is_some());
    assert_eq!(cache.get(Path::new("other"), &stat(2)), None);
}

#[test]
fn a_rewrite_of_equal_size_right_after_a_stat_is_seen() {
    let fixture = Fixture::new();
    let path = fixture.directory().join("f");
    for round in 0..200 {
        fs::write(&path, "one").unwrap();
        let cache = StatCache::load(&fixture.store, &fixture.directory());
        cache.put(Path::new("f"), &FileStat::from(&fs::metadata(&path).unwrap()), Digest::of("one"));
        cache.save().unwrap();
        fs::write(&path, "two").unwrap();
        let cache = StatCache::load(&fixture.store, &fixture.directory());
        let found = cache.get(Path::new("f"), &FileStat::from(&fs::metadata(&path).unwrap()));
        assert_eq!(found, None, "round {round}");
    }
}

fn any_stat() -> impl Strategy<Value = FileStat> {
    let numbers = (any::<[u64; 3]>(), any::<[u32; 3]>(), any::<[i128; 2]>());
    numbers.prop_map(|([dev, ino, size], [mode, uid, gid], [mtime_ns, ctime_ns])| FileStat {
        dev,
        ino,
        size,
        mode,
        uid,
        gid,
        mtime_ns,
        ctime_ns,
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        files in proptest::collection::btree_map(any::<Vec<u8>>(), (any_stat(), any::<u32>()), 0..40)
    ) {
        let entries: Vec<Entry<'_>> = files
            .iter()
            .map(|(path, (stat, age))| Entry { path, stat: *stat, digest: Digest::of(path), age: *age })
            .collect();
        let table = Table::decode(encoded(&entries), BOOT).unwrap();
        prop_assert_eq!(table.len(), entries.len());
        for entry in &entries {
            let number = table.find(entry.path).unwrap();
            prop_assert_eq!(table.entry(number).unwrap(), *entry);
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(Table::decode(bytes, BOOT).is_none());
    }
}
