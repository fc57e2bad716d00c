//! Build records: what a step gave under which keys. And notes: small named texts.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Digest, Error, Result, SnapshotId, Store};

/// How exactly the last use of a record is known: a build within this time after the last one writes nothing.
const USE_SECONDS: i64 = 3600;

/// The outcome of a build step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// Names the result; keys of later steps are made from it.
    pub result: Digest,
    /// The snapshots that the result consists of, base first.
    pub chain: Vec<SnapshotId>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// What entered the key, as short texts, to explain a later miss.
    pub parts: Vec<(String, String)>,
}

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record whose snapshots are all there.
    Present(Record),
    /// A record whose snapshots are gone. Its result id is as good as ever.
    Collected {
        /// The record, with the chain that it had.
        record: Record,
        /// When the snapshots went, in seconds since 1970.
        at: i64,
    },
}

/// What people are told of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// What it keeps.
    pub kind: RecordKind,
    /// The step that made it, as it was shown.
    pub description: String,
}

/// What something in the cache is, in BuildKit's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// The result of a step.
    #[default]
    Regular,
    /// Files of a build context.
    LocalSource,
    /// A folder that RUN steps keep between builds.
    CacheMount,
    /// Files of a git repository.
    GitCheckout,
    /// A frontend; kiln has none.
    Frontend,
    /// What kiln needs for itself.
    Internal,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Regular,
        Self::LocalSource,
        Self::CacheMount,
        Self::GitCheckout,
        Self::Frontend,
        Self::Internal,
    ];

    /// Returns the name that BuildKit has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::LocalSource => "source.local",
            Self::CacheMount => "exec.cachemount",
            Self::GitCheckout => "source.git.checkout",
            Self::Frontend => "frontend",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text names no kind of record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing in a cache is of the type `{text}`")]
pub struct ParseRecordKindError {
    text: String,
}

impl FromStr for RecordKind {
    type Err = ParseRecordKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or_else(|| ParseRecordKindError { text: text.to_owned() })
    }
}

impl Store {
    /// Returns the record under `key`, whose snapshots are all there.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        Ok(match self.find_record(key)? {
            Some(Found::Present(record)) => Some(record),
            _ => None,
        })
    }

    /// Returns what lies under `key`, be it collected.
    pub fn find_record(&self, key: &Digest) -> Result<Option<Found>> {
        let Some((found, used)) = self.meta().read(|tx| tx.record(key))? else { return Ok(None) };
        if let Found::Present(record) = &found
            && used < now() - USE_SECONDS
        {
            self.long_unused().insert(record.result);
        }
        Ok(Some(found))
    }

    /// Keeps `record` under all of `keys`, in place of what was there; true when the first of them led to it already.
    /// What is known under another key already keeps its label.
    ///
    /// The caller holds the chain by a lease; [`Error::NoSnapshot`] when part of it is gone.
    pub fn put_record(&self, keys: &[Digest], record: &Record, label: &Label) -> Result<bool> {
        let mut known = 0;
        for key in keys {
            if self.record(key)?.as_ref() != Some(record) {
                break;
            }
            known += 1;
        }
        if known < keys.len() {
            self.meta().write(|tx| match tx.missing_snapshot(&record.chain)? {
                Some(id) => Err(Error::NoSnapshot { id }),
                None => tx.put_record(keys, record, label, now()),
            })?;
        }
        Ok(known > 0)
    }

    /// Notes that these results were used. Of those that were used within the last hour already, nothing is
    /// written or even read: call it once, at the end.
    pub fn touch(&self, results: &[Digest]) -> Result<()> {
        let due: Vec<&Digest> = {
            let mut long_unused = self.long_unused();
            results.iter().filter(|result| long_unused.remove(result)).collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let now = now();
        self.meta().write(|tx| due.iter().try_for_each(|result| tx.touch(result, now, now - USE_SECONDS)))
    }

    /// Returns the note of this kind and key.
    pub fn note(&self, kind: &str, key: &str) -> Result<Option<String>> {
        self.meta().read(|tx| tx.note(kind, key))
    }

    /// Keeps a note, in place of what was there.
    pub fn put_note(&self, kind: &str, key: &str, value: &str) -> Result<()> {
        if self.note(kind, key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.meta().write(|tx| tx.put_note(kind, key, value))
    }
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Snapshot, Sweep};

    fn new_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn put(store: &Store, name: &str) -> Record {
        let id = store.stage(&store.lease()).unwrap().commit(Snapshot::default()).unwrap();
        let record = Record { result: Digest::of(name), chain: vec![id], created: 3, parts: vec![] };
        store.put_record(&[Digest::of([name, "key"].concat())], &record, &Label::default()).unwrap();
        record
    }

    fn find(store: &Store, name: &str) -> Option<Found> {
        store.find_record(&Digest::of([name, "key"].concat())).unwrap()
    }

    /// When the record was used last, and how often.
    fn uses(store: &Store, record: &Record) -> (i64, i64) {
        store.meta().read(|tx| tx.uses(&record.result)).unwrap().unwrap()
    }

    #[test]
    fn a_collected_record_still_tells_its_result() {
        let (_folder, store) = new_store();
        let record = put(&store, "a");
        assert_eq!(find(&store, "a"), Some(Found::Present(record.clone())));
        store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
        match find(&store, "a") {
            Some(Found::Collected { record: kept, at }) => {
                assert_eq!(kept, record);
                assert!((now() - 60..=now()).contains(&at));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(store.record(&Digest::of("akey")).unwrap(), None);
        let again = put(&store, "a");
        assert_eq!(find(&store, "a"), Some(Found::Present(again)), "made again, it is there again");
    }

    #[test]
    fn collected_records_are_bounded_in_number_and_age() {
        let (_folder, store) = new_store();
        for number in 0..5 {
            let record = put(&store, &number.to_string());
            let row = store.meta().read(|tx| tx.record_chains()).unwrap()[0].0;
            store.meta().write(|tx| tx.collect_record(row, 100 + number)).unwrap();
            assert_eq!(record.created, 3);
        }
        let old = store.meta().read(|tx| tx.old_collected(102, 2)).unwrap();
        store.meta().write(|tx| old.iter().try_for_each(|row| tx.drop_record(*row))).unwrap();
        let known: Vec<bool> = (0..5).map(|number| find(&store, &number.to_string()).is_some()).collect();
        assert_eq!(known, [false, false, false, true, true]);
    }

    #[test]
    fn a_use_is_noted_once_an_hour_and_only_for_what_was_found() {
        let (_folder, store) = new_store();
        let (used, other) = (put(&store, "used"), put(&store, "other"));
        let results = [used.result, other.result];
        find(&store, "used");
        store.touch(&results).unwrap();
        assert_eq!(uses(&store, &used).1, 1, "its making was its first use, and less than an hour ago");
        let long_ago = now() - USE_SECONDS - 1;
        store.meta().write(|tx| tx.set_used(long_ago)).unwrap();
        find(&store, "used");
        find(&store, "used");
        store.touch(&results).unwrap();
        store.touch(&results).unwrap();
        let (last, count) = uses(&store, &used);
        assert!(last > long_ago && count == 2);
        assert_eq!(uses(&store, &other), (long_ago, 1));
    }

    #[test]
    fn a_further_key_makes_no_second_record() {
        let (_folder, store) = new_store();
        let record = put(&store, "a");
        store.put_record(&[Digest::of("cheap")], &record, &Label::default()).unwrap();
        assert_eq!(store.meta().read(|tx| tx.record_chains()).unwrap().len(), 1);
        for key in ["cheap", "akey"] {
            assert_eq!(store.record(&Digest::of(key)).unwrap().as_ref(), Some(&record), "{key}");
        }
    }

    #[test]
    fn kinds_are_called_as_buildkit_calls_them() {
        for kind in RecordKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("regulars".parse::<RecordKind>().is_err());
    }
}
