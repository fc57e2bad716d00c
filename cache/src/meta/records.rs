//! Rows of build records, their keys, and notes.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use super::{Chain, Tx};
use crate::record::{Found, Label, Record};
use crate::{Digest, Result};

impl Tx<'_> {
    /// Returns what lies under `key`, and when it was used last.
    pub(crate) fn record(&self, key: &Digest) -> Result<Option<(Found, i64)>> {
        self.one(
            "SELECT result, chain, created, parts, used, collected
             FROM keys JOIN records ON records.id = keys.record WHERE key = ?1",
            (key,),
            |row| {
                let (chain, parts): (Chain, Parts) = (row.get(1)?, row.get(3)?);
                let record =
                    Record { result: row.get(0)?, chain: chain.0, created: row.get(2)?, parts: parts.0 };
                let found = match row.get(5)? {
                    Some(at) => Found::Collected { record, at },
                    None => Found::Present(record),
                };
                Ok((found, row.get(4)?))
            },
        )
    }

    /// Enters a record under all of `keys`, in place of what was there. One that is there already gets the keys.
    pub(crate) fn put_record(&self, keys: &[Digest], record: &Record, label: &Label, now: i64) -> Result<()> {
        let (chain, parts) = (Chain(record.chain.clone()), serde_json::json!(record.parts).to_string());
        let known: Option<i64> = self.one(
            "UPDATE records SET parts = ?4 WHERE id =
             (SELECT id FROM records WHERE result = ?1 AND chain = ?2 AND created = ?3 AND collected IS NULL)
             RETURNING id",
            (record.result, &chain, record.created, &parts),
            |row| row.get(0),
        )?;
        let id = match known {
            Some(id) => Some(id),
            None => {
                let id: Option<i64> = self.one(
                    "INSERT INTO records (result, chain, created, parts, kind, description, used, uses)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1) RETURNING id",
                    (
                        record.result,
                        &chain,
                        record.created,
                        &parts,
                        label.kind.name(),
                        &label.description,
                        now,
                    ),
                    |row| row.get(0),
                )?;
                self.replace_records(&record.result, id)?;
                id
            }
        };
        for key in keys {
            let before: Option<i64> =
                self.one("SELECT record FROM keys WHERE key = ?1", (key,), |row| row.get(0))?;
            self.run("INSERT OR REPLACE INTO keys (key, record) VALUES (?1, ?2)", (key, id))?;
            // A row is taken out only after a newer one: the collector tells by the number what is new.
            if before != id && known.is_none() {
                self.run(
                    "DELETE FROM records WHERE id = ?1 AND id NOT IN (SELECT record FROM keys WHERE record = ?1)",
                    (before,),
                )?;
            }
        }
        Ok(())
    }

    /// Gives the keys of all other records of this result to the row `new`: a result was made again.
    fn replace_records(&self, result: &Digest, new: Option<i64>) -> Result<()> {
        self.run(
            "UPDATE keys SET record = ?2
             WHERE record IN (SELECT id FROM records WHERE result = ?1 AND id <> ?2)",
            (result, new),
        )?;
        self.run("DELETE FROM records WHERE result = ?1 AND id <> ?2", (result, new)).map(drop)
    }

    /// Notes a use of the present records with this result, if their last one is older than `before`.
    pub(crate) fn touch(&self, result: &Digest, now: i64, before: i64) -> Result<()> {
        self.run(
            "UPDATE records SET used = ?2, uses = uses + 1
             WHERE result = ?1 AND used < ?3 AND collected IS NULL",
            (result, now, before),
        )
        .map(drop)
    }

    /// Returns when the record of this result was used last, and how often it was.
    #[cfg(test)]
    pub(crate) fn uses(&self, result: &Digest) -> Result<Option<(i64, i64)>> {
        self.one("SELECT used, uses FROM records WHERE result = ?1", (result,), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// Lets the records of this result be used last at `time`.
    #[cfg(test)]
    pub(crate) fn set_last_use(&self, result: &Digest, time: i64) -> Result<()> {
        self.run("UPDATE records SET used = ?2 WHERE result = ?1", (result, time)).map(drop)
    }

    /// Lets all records be used last at `time`.
    #[cfg(test)]
    pub(crate) fn set_used(&self, time: i64) -> Result<()> {
        self.run("UPDATE records SET used = ?1", (time,)).map(drop)
    }

    /// Returns every present record's row number and chain.
    pub(crate) fn record_chains(&self) -> Result<Vec<(i64, Chain)>> {
        self.record_chains_after(0)
    }

    /// Returns the same of the records that were entered after the row number `after`.
    pub(crate) fn record_chains_after(&self, after: i64) -> Result<Vec<(i64, Chain)>> {
        self.all("SELECT id, chain FROM records WHERE id > ?1 AND collected IS NULL", (after,), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// Returns the largest row number that a record has.
    pub(crate) fn newest_record(&self) -> Result<i64> {
        Ok(self.one("SELECT coalesce(max(id), 0) FROM records", (), |row| row.get(0))?.unwrap_or(0))
    }

    /// Removes a record and its keys.
    pub(crate) fn drop_record(&self, id: i64) -> Result<()> {
        self.run("DELETE FROM keys WHERE record = ?1", (id,))?;
        self.run("DELETE FROM records WHERE id = ?1", (id,)).map(drop)
    }

    /// Marks a record whose snapshots go.
    pub(crate) fn collect_record(&self, id: i64, now: i64) -> Result<()> {
        self.run("UPDATE records SET collected = ?2 WHERE id = ?1 AND collected IS NULL", (id, now)).map(drop)
    }

    /// Returns the collected records that went before `before`, and of the others all but the `most` that went last.
    pub(crate) fn old_collected(&self, before: i64, most: u32) -> Result<Vec<i64>> {
        self.all(
            "SELECT id FROM records WHERE collected < ?1 UNION
             SELECT * FROM (SELECT id FROM records WHERE collected IS NOT NULL
                ORDER BY collected DESC, id DESC LIMIT -1 OFFSET ?2)",
            (before, most),
            |row| row.get(0),
        )
    }

    /// Returns whether records without a key, or keys without a record, are there.
    pub(crate) fn has_loose_records(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE record NOT IN (SELECT id FROM records))
                   OR EXISTS (SELECT 1 FROM records WHERE id NOT IN (SELECT record FROM keys))";
        Ok(self.one(sql, (), |row| row.get(0))?.unwrap_or(true))
    }

    /// Removes keys without a record and records without a key; the number of such records that were present.
    pub(crate) fn drop_loose_records(&self) -> Result<usize> {
        self.run("DELETE FROM keys WHERE record NOT IN (SELECT id FROM records)", ())?;
        self.run(
            "DELETE FROM records WHERE id NOT IN (SELECT record FROM keys) AND collected IS NOT NULL",
            (),
        )?;
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
