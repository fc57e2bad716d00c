//! Rows of build records, their keys, and notes.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use super::{Chain, Tx};
use crate::record::Record;
use crate::{Digest, Result};

impl Tx<'_> {
    /// Returns the record under `key`.
    pub(crate) fn record(&self, key: &Digest) -> Result<Option<Record>> {
        self.one(
            "SELECT result, chain, created, parts FROM keys JOIN records ON records.id = keys.record WHERE key = ?1",
            (key,),
            |row| {
                let (chain, parts): (Chain, Parts) = (row.get(1)?, row.get(3)?);
                Ok(Record { result: row.get(0)?, chain: chain.0, created: row.get(2)?, parts: parts.0 })
            },
        )
    }

    /// Enters a record under all of `keys`, in place of what was there.
    pub(crate) fn put_record(&self, keys: &[Digest], record: &Record) -> Result<()> {
        let parts = serde_json::json!(record.parts).to_string();
        let id: Option<i64> = self.one(
            "INSERT INTO records (result, chain, created, parts) VALUES (?1, ?2, ?3, ?4) RETURNING id",
            (record.result, Chain(record.chain.clone()), record.created, parts),
            |row| row.get(0),
        )?;
        for key in keys {
            self.run("INSERT OR REPLACE INTO keys (key, record) VALUES (?1, ?2)", (key, id))?;
        }
        Ok(())
    }

    /// Returns every record's row number and chain.
    pub(crate) fn record_chains(&self) -> Result<Vec<(i64, Chain)>> {
        self.all("SELECT id, chain FROM records", (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Removes a record and its keys.
    pub(crate) fn drop_record(&self, id: i64) -> Result<()> {
        self.run("DELETE FROM records WHERE id = ?1", (id,)).map(drop)
    }

    /// Removes keys without a record and records without a key; the number of such records.
    pub(crate) fn drop_loose_records(&self) -> Result<usize> {
        self.run("DELETE FROM keys WHERE record NOT IN (SELECT id FROM records)", ())?;
        self.run("DELETE FROM records WHERE id NOT IN (SELECT record FROM keys)", ())
    }

    /// Returns the note of this kind and key.
    pub(crate) fn note(&self, kind: &str, key: &str) -> Result<Option<String>> {
        self.one("SELECT value FROM notes WHERE kind = ?1 AND key = ?2", (kind, key), |row| row.get(0))
    }

    /// Enters a note in place of what was there.
    pub(crate) fn put_note(&self, kind: &str, key: &str, value: &str) -> Result<()> {
        self.run("INSERT OR REPLACE INTO notes (kind, key, value) VALUES (?1, ?2, ?3)", (kind, key, value))
            .map(drop)
    }
}

/// The parts of a key, as JSON.
struct Parts(Vec<(String, String)>);

impl FromSql for Parts {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}
