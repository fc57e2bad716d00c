//! Questions of the check: rows as they are, also those that make no sense.

use super::{Tx, failure};
use crate::{Digest, Result, SnapshotId};

/// A build record's row, nothing of it parsed.
pub(crate) struct RawRecord {
    pub(crate) row: i64,
    pub(crate) result: String,
    pub(crate) chain: String,
    pub(crate) parts: String,
    pub(crate) has_key: bool,
}

/// An image's row, nothing of it parsed.
pub(crate) struct RawImage {
    pub(crate) id: String,
    pub(crate) manifest: Option<String>,
    pub(crate) chain: String,
}

impl Tx<'_> {
    /// Returns what SQLite finds wrong with its file; empty when all is well. `quick` leaves the indexes out.
    pub(crate) fn faults(&self, quick: bool) -> Result<Vec<String>> {
        let sql = if quick { "PRAGMA quick_check(20)" } else { "PRAGMA integrity_check(20)" };
        let mut found = self.all(sql, (), |row| row.get::<_, String>(0))?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    /// Makes all indexes anew from their tables.
    pub(crate) fn reindex(&self) -> Result<()> {
        self.connection.execute_batch("REINDEX").map_err(|error| failure(self.path, error))
    }

    /// Returns the name and state of each row.
    pub(crate) fn snapshot_states(&self) -> Result<Vec<(String, String)>> {
        self.all("SELECT id, state FROM snapshots ORDER BY id", (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Returns the name, state and size of each row.
    pub(crate) fn blob_states(&self) -> Result<Vec<(String, String, i64)>> {
        let sql = "SELECT digest, state, size FROM blobs ORDER BY digest";
        self.all(sql, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    }

    /// Hands each build record that wasn't collected to `look`.
    pub(crate) fn each_record(&self, mut look: impl FnMut(RawRecord)) -> Result<()> {
        let sql = "SELECT id, result, chain, parts, id IN (SELECT record FROM keys)
             FROM records WHERE collected IS NULL";
        let mut each = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let (row, result, chain) =
                    (row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?, row.get(4)?));
                let (chain, parts, has_key) = chain;
                look(RawRecord { row, result, chain, parts, has_key });
            }
            Ok(())
        };
        each().map_err(|error| failure(self.path, error))
    }

    /// Returns the number of keys that lead to no record.
    pub(crate) fn loose_keys(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM keys WHERE record NOT IN (SELECT id FROM records)";
        Ok(self.one(sql, (), |row| row.get(0))?.unwrap_or(0))
    }

    /// Returns all images.
    pub(crate) fn raw_images(&self) -> Result<Vec<RawImage>> {
        self.all("SELECT id, manifest, chain FROM images ORDER BY id", (), |row| {
            Ok(RawImage { id: row.get(0)?, manifest: row.get(1)?, chain: row.get(2)? })
        })
    }

    /// Returns the names, with tags and with digests, that lead to no image.
    pub(crate) fn loose_names(&self) -> Result<Vec<String>> {
        let sql = "SELECT name FROM names WHERE image NOT IN (SELECT id FROM images) UNION
                   SELECT name FROM repo_digests WHERE image NOT IN (SELECT id FROM images)";
        self.all(sql, (), |row| row.get(0))
    }

    /// Returns which blobs are said to be packed layers, by the layer's diffID.
    pub(crate) fn packed_layers(&self) -> Result<Vec<(Digest, Digest)>> {
        let sql = "SELECT diff, digest FROM layer_blobs ORDER BY diff, digest";
        self.all(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Forgets that `blob` is a packed layer.
    pub(crate) fn drop_packed_layer(&self, blob: &Digest) -> Result<()> {
        self.run("DELETE FROM layer_blobs WHERE digest = ?1", (blob,)).map(drop)
    }

    /// Takes the manifest, whose blob is damaged, from the images that have it, with the names that are its digest.
    pub(crate) fn drop_manifest(&self, blob: &Digest) -> Result<()> {
        self.run("UPDATE images SET manifest = NULL WHERE manifest = ?1", (blob,))?;
        let suffix = format!("@{blob}");
        self.run("DELETE FROM repo_digests WHERE substr(name, -length(?1)) = ?1", (suffix,)).map(drop)
    }

    /// Removes the names that lead to no image; their number.
    pub(crate) fn drop_loose_names(&self) -> Result<usize> {
        let names = self.run("DELETE FROM names WHERE image NOT IN (SELECT id FROM images)", ())?;
        Ok(names + self.run("DELETE FROM repo_digests WHERE image NOT IN (SELECT id FROM images)", ())?)
    }

    /// Removes images whose id is no digest; their number.
    pub(crate) fn drop_raw_image(&self, id: &str) -> Result<usize> {
        self.run("DELETE FROM images WHERE id = ?1", (id,))
    }

    /// Forgets what layer a snapshot holds, so that nobody takes it for that layer again.
    pub(crate) fn forget_diff(&self, id: SnapshotId) -> Result<()> {
        self.run("DELETE FROM diffs WHERE snapshot = ?1", (id,)).map(drop)
    }

    /// Returns the number of snapshots and blobs in the making that no lease of `alive` has.
    pub(crate) fn unfinished(&self, alive: impl Fn(&str) -> bool) -> Result<usize> {
        let sql = "SELECT id, lease FROM snapshots LEFT JOIN lease_snapshots ON snapshot = id WHERE state = 'staging'
                   UNION SELECT digest, lease FROM blobs LEFT JOIN lease_blobs ON blob = digest WHERE state = 'staging'";
        let rows = self.all(sql, (), |row| row.get::<_, Option<String>>(1))?;
        Ok(rows.iter().filter(|lease| !lease.as_deref().is_some_and(&alive)).count())
    }
}
