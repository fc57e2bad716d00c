//! Rows of snapshots and of their layers' blobs.

use super::{Tx, signed, unsigned};
use crate::snapshot::{Diff, LayerBlob, Snapshot, TIMES_KEPT};
use crate::{Digest, Result, SnapshotId};

impl Tx<'_> {
    /// Enters a snapshot, whose files are in place.
    pub(crate) fn finish_snapshot(&self, id: SnapshotId, snapshot: &Snapshot, boot: &str) -> Result<()> {
        let Snapshot { diff, bytes, shared_bytes, shared_with, created } = snapshot;
        self.run(
            "INSERT OR REPLACE INTO snapshots (id, state, boot, bytes, shared, source, created)
             VALUES (?1, 'ready', ?2, ?3, ?4, ?5, ?6)",
            (id, boot, signed(*bytes), signed(*shared_bytes), shared_with, created),
        )?;
        match diff {
            Some(diff) => self.set_diff(id, TIMES_KEPT, diff).map(drop),
            None => Ok(()),
        }
    }

    /// Returns the first of `chain` that isn't ready.
    pub(crate) fn missing_snapshot(&self, chain: &[SnapshotId]) -> Result<Option<SnapshotId>> {
        for id in chain {
            let ready =
                self.one("SELECT 1 FROM snapshots WHERE id = ?1 AND state = 'ready'", (id,), |_| Ok(()))?;
            if ready.is_none() {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// Returns the unpacked bytes of a ready snapshot.
    pub(crate) fn snapshot_bytes(&self, id: SnapshotId) -> Result<Option<u64>> {
        self.one("SELECT bytes FROM snapshots WHERE id = ?1 AND state = 'ready'", (id,), |row| row.get(0))
            .map(|bytes| bytes.map(unsigned))
    }

    /// Returns the snapshot that a ready one shares files with.
    pub(crate) fn shared_with(&self, id: SnapshotId) -> Result<Option<SnapshotId>> {
        self.one("SELECT source FROM snapshots WHERE id = ?1 AND state = 'ready'", (id,), |row| row.get(0))
            .map(Option::flatten)
    }

    /// Returns a ready snapshot's diff by a rule of times: `None` without such a snapshot, `Some(None)` while it
    /// is unknown.
    pub(crate) fn diff(&self, id: SnapshotId, rule: i64) -> Result<Option<Option<Diff>>> {
        self.one(
            "SELECT diff, tar_bytes FROM snapshots LEFT JOIN diffs ON snapshot = id AND rule = ?2
             WHERE id = ?1 AND state = 'ready'",
            (id, rule),
            |row| {
                let (diff, bytes) = (row.get::<_, Option<Digest>>(0)?, row.get::<_, Option<i64>>(1)?);
                Ok(diff.map(|id| Diff { id, tar_bytes: unsigned(bytes.unwrap_or(0)) }))
            },
        )
    }

    /// Returns the known diffs of a ready snapshot by their rules of times.
    pub(crate) fn diffs(&self, id: SnapshotId) -> Result<Vec<(i64, Diff)>> {
        self.all(
            "SELECT rule, diff, tar_bytes FROM diffs JOIN snapshots ON id = snapshot
             WHERE snapshot = ?1 AND state = 'ready' ORDER BY rule",
            (id,),
            |row| Ok((row.get(0)?, Diff { id: row.get(1)?, tar_bytes: unsigned(row.get(2)?) })),
        )
    }

    /// Notes the diff of a ready snapshot by a rule of times; false without such a snapshot.
    pub(crate) fn set_diff(&self, id: SnapshotId, rule: i64, diff: &Diff) -> Result<bool> {
        let changed = self.run(
            "INSERT OR REPLACE INTO diffs (snapshot, rule, diff, tar_bytes)
             SELECT id, ?2, ?3, ?4 FROM snapshots WHERE id = ?1 AND state = 'ready'",
            (id, rule, diff.id, signed(diff.tar_bytes)),
        )?;
        Ok(changed == 1)
    }

    /// Returns a ready snapshot whose files, with their times, are the layer `diff`.
    pub(crate) fn snapshot_of_layer(&self, diff: &Digest) -> Result<Option<SnapshotId>> {
        self.one(
            "SELECT id FROM diffs JOIN snapshots ON id = snapshot
             WHERE diff = ?1 AND rule = ?2 AND state = 'ready' ORDER BY created, id LIMIT 1",
            (diff, TIMES_KEPT),
            |row| row.get(0),
        )
    }

    /// Notes that `blob` unpacks to the layer `diff`.
    pub(crate) fn add_layer_blob(&self, diff: &Digest, blob: &LayerBlob) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO layer_blobs (diff, digest, size, media_type) VALUES (?1, ?2, ?3, ?4)",
            (diff, blob.digest, signed(blob.size), &blob.media_type),
        )
        .map(drop)
    }

    /// Returns the blobs that unpack to the layer `diff`.
    pub(crate) fn layer_blobs(&self, diff: &Digest) -> Result<Vec<LayerBlob>> {
        self.all(
            "SELECT digest, size, media_type FROM layer_blobs WHERE diff = ?1 ORDER BY digest",
            (diff,),
            |row| Ok(LayerBlob { digest: row.get(0)?, size: unsigned(row.get(1)?), media_type: row.get(2)? }),
        )
    }

    /// Returns the ready snapshots whose files may be in the page cache of `boot` only.
    pub(crate) fn unflushed(&self, boot: &str) -> Result<Vec<SnapshotId>> {
        self.all("SELECT id FROM snapshots WHERE boot = ?1 AND state = 'ready'", (boot,), |row| row.get(0))
    }

    /// Notes that the files of a snapshot are on the disk.
    pub(crate) fn set_flushed(&self, id: SnapshotId) -> Result<()> {
        self.run("UPDATE snapshots SET boot = NULL WHERE id = ?1", (id,)).map(drop)
    }

    /// Returns whether a snapshot of another boot than `boot` was never flushed.
    pub(crate) fn has_lost(&self, boot: &str) -> Result<bool> {
        let lost =
            "SELECT 1 FROM snapshots WHERE boot IS NOT NULL AND boot <> ?1 AND state = 'ready' LIMIT 1";
        Ok(self.one(lost, (boot,), |_| Ok(()))?.is_some())
    }
}
