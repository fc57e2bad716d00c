//! Build records: what a step gave under which keys. And notes: small named texts.

use crate::{Digest, Error, Result, SnapshotId, Store};

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

impl Store {
    /// Returns the record under `key`, whose snapshots are all there.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        self.meta().read(|tx| tx.record(key))
    }

    /// Keeps `record` under all of `keys`, in place of what was there.
    ///
    /// The caller holds the chain by a lease; [`Error::NoSnapshot`] when part of it is gone.
    pub fn put_record(&self, keys: &[Digest], record: &Record) -> Result<()> {
        let mut same = true;
        for key in keys {
            same = same && self.record(key)?.as_ref() == Some(record);
        }
        if same {
            return Ok(());
        }
        self.meta().write(|tx| match tx.missing_snapshot(&record.chain)? {
            Some(id) => Err(Error::NoSnapshot { id }),
            None => tx.put_record(keys, record),
        })
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
