//! What a listing of the cache, and the choice of what goes, are made from.

use std::collections::HashMap;

use super::{Chain, Tx, signed, unsigned};
use crate::gc::Room;
use crate::{Digest, RecordKind, Result, SnapshotId};

/// A present record's row.
#[derive(Debug)]
pub(crate) struct RecordRow {
    pub(crate) row: i64,
    pub(crate) result: Digest,
    pub(crate) chain: Vec<SnapshotId>,
    pub(crate) created: i64,
    pub(crate) kind: RecordKind,
    pub(crate) description: String,
    pub(crate) used: i64,
    pub(crate) uses: u64,
}

/// What tells in a moment whether the bounds may be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    /// The bytes of all snapshots, those of images included.
    pub(crate) bytes: u64,
    /// When the longest unused record was used last.
    pub(crate) used: Option<i64>,
    /// When the longest unused record of files from elsewhere was.
    pub(crate) source_used: Option<i64>,
}

impl Tx<'_> {
    /// Returns every present record.
    pub(crate) fn record_rows(&self) -> Result<Vec<RecordRow>> {
        let sql = "SELECT id, result, chain, created, kind, description, used, uses FROM records
                   WHERE collected IS NULL";
        self.all(sql, (), |row| {
            Ok(RecordRow {
                row: row.get(0)?,
                result: row.get(1)?,
                chain: row.get::<_, Chain>(2)?.0,
                created: row.get(3)?,
                // Of a kind that only a newer kiln knows, it is at least something in the cache.
                kind: row.get::<_, String>(4)?.parse().unwrap_or_default(),
                description: row.get(5)?,
                used: row.get(6)?,
                uses: unsigned(row.get(7)?),
            })
        })
    }

    /// Returns when each ready snapshot was made, and what it takes with the blobs that are kept for it.
    pub(crate) fn rooms(&self) -> Result<HashMap<SnapshotId, (i64, Room)>> {
        let blobs = "SELECT snapshot, sum(size) FROM diffs JOIN layer_blobs USING (diff) GROUP BY snapshot";
        let blobs: HashMap<SnapshotId, i64> =
            self.all(blobs, (), |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect();
        let sql = "SELECT id, created, coalesce(disk, bytes), shared, source FROM snapshots
                   WHERE state = 'ready'";
        let rooms = self.all(sql, (), |row| {
            let id: SnapshotId = row.get(0)?;
            let disk = unsigned(row.get(2)?) + blobs.get(&id).copied().map_or(0, unsigned);
            let room = Room { disk, shared: unsigned(row.get(3)?).min(disk), source: row.get(4)? };
            Ok((id, (row.get(1)?, room)))
        })?;
        Ok(rooms.into_iter().collect())
    }

    /// Returns what `id` takes, and what those take that share its bytes.
    pub(crate) fn rooms_around(&self, id: SnapshotId) -> Result<HashMap<SnapshotId, Room>> {
        let sql = "SELECT id, coalesce(disk, bytes), shared, source FROM snapshots
                   WHERE id = ?1 OR source = ?1 OR id = (SELECT source FROM snapshots WHERE id = ?1)";
        let rooms = self.all(sql, (id,), |row| {
            let disk = unsigned(row.get(1)?);
            Ok((row.get(0)?, Room { disk, shared: unsigned(row.get(2)?).min(disk), source: row.get(3)? }))
        })?;
        Ok(rooms.into_iter().collect())
    }

    /// Notes with which snapshot another one shares how many bytes.
    pub(crate) fn set_shared(&self, id: SnapshotId, room: &Room) -> Result<()> {
        self.run(
            "UPDATE snapshots SET shared = ?2, source = ?3 WHERE id = ?1",
            (id, signed(room.shared), room.source),
        )
        .map(drop)
    }

    /// Returns the ready snapshots that nobody has measured.
    pub(crate) fn unmeasured(&self) -> Result<Vec<SnapshotId>> {
        self.all("SELECT id FROM snapshots WHERE disk IS NULL AND state = 'ready'", (), |row| row.get(0))
    }

    /// Notes what a snapshot takes on the disk; of that, as large a part is shared as of its files' bytes.
    pub(crate) fn set_disk(&self, id: SnapshotId, disk: u64) -> Result<()> {
        self.run(
            "UPDATE snapshots SET disk = ?2,
                shared = CASE WHEN source IS NULL OR bytes = 0 THEN 0
                    ELSE min(?2, CAST(1.0 * shared / bytes * ?2 AS INTEGER)) END
             WHERE id = ?1",
            (id, signed(disk)),
        )
        .map(drop)
    }

    /// Returns which lease needs which snapshot.
    pub(crate) fn leased_snapshots(&self) -> Result<Vec<(String, SnapshotId)>> {
        self.all("SELECT lease, snapshot FROM lease_snapshots", (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Returns what tells in a moment whether the bounds may be passed.
    pub(crate) fn sums(&self) -> Result<Sums> {
        let bytes =
            "SELECT coalesce(sum(coalesce(disk, bytes) - shared), 0) FROM snapshots WHERE state = 'ready'";
        let bytes = self.one(bytes, (), |row| row.get(0))?.unwrap_or(0);
        let used = "SELECT min(used), min(CASE WHEN kind <> 'regular' THEN used END) FROM records
                    WHERE collected IS NULL";
        let used = self.one(used, (), |row| Ok((row.get(0)?, row.get(1)?)))?.unwrap_or((None, None));
        Ok(Sums { bytes: unsigned(bytes), used: used.0, source_used: used.1 })
    }
}
