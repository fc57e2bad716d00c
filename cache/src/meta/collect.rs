//! Questions and changes of the collector.

use super::{Tx, unsigned};
use crate::gc::Space;
use crate::{Digest, Result, SnapshotId};

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A snapshot, named by its id.
    Snapshot,
    /// A blob, named by its hex digits.
    Blob,
}

/// Something that nothing needs any more.
#[derive(Debug)]
pub(crate) struct Dying {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Dying {
    /// Returns which snapshot it is.
    pub(crate) fn snapshot(&self) -> Option<SnapshotId> {
        self.name.parse().ok().filter(|_| self.kind == Kind::Snapshot)
    }
}

impl Kind {
    fn columns(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Snapshot => ("snapshots", "id", "bytes"),
            Self::Blob => ("blobs", "digest", "size"),
        }
    }
}

impl Tx<'_> {
    /// Returns every snapshot that a lease names.
    pub(crate) fn held_snapshots(&self) -> Result<Vec<SnapshotId>> {
        self.all("SELECT DISTINCT snapshot FROM lease_snapshots", (), |row| row.get(0))
    }

    /// Returns the snapshots that are staging or ready.
    pub(crate) fn living_snapshots(&self) -> Result<Vec<SnapshotId>> {
        self.all("SELECT id FROM snapshots WHERE state <> 'dying'", (), |row| row.get(0))
    }

    /// Condemns a snapshot. Its boot stays, for the case that it is spared.
    pub(crate) fn condemn_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.run("UPDATE snapshots SET state = 'dying' WHERE id = ?1", (id,)).map(drop)
    }

    /// Takes a snapshot's condemnation back; false when it was lost with another boot than `boot`.
    pub(crate) fn spare_snapshot(&self, id: SnapshotId, boot: &str) -> Result<bool> {
        let sql = "UPDATE snapshots SET state = 'ready' WHERE id = ?1 AND (boot IS NULL OR boot = ?2)";
        Ok(self.run(sql, (id, boot))? == 1)
    }

    /// Forgets the blobs of layers that no ready snapshot holds.
    pub(crate) fn drop_loose_layer_blobs(&self) -> Result<()> {
        self.run(
            "DELETE FROM layer_blobs WHERE diff NOT IN
             (SELECT diff FROM diffs JOIN snapshots ON id = snapshot WHERE state = 'ready')",
            (),
        )
        .map(drop)
    }

    /// Condemns the blobs that no image, layer or lease names.
    pub(crate) fn condemn_blobs(&self) -> Result<()> {
        self.run(
            "UPDATE blobs SET state = 'dying' WHERE digest NOT IN (
                SELECT id FROM images UNION ALL
                SELECT manifest FROM images WHERE manifest IS NOT NULL UNION ALL
                SELECT digest FROM layer_blobs UNION ALL
                SELECT blob FROM lease_blobs)",
            (),
        )
        .map(drop)
    }

    /// Returns up to `limit` rows that are dying.
    pub(crate) fn dying(&self, limit: u32) -> Result<Vec<Dying>> {
        let mut dying = Vec::new();
        for kind in [Kind::Snapshot, Kind::Blob] {
            let (table, name, bytes) = kind.columns();
            let sql = format!("SELECT {name}, {bytes} FROM {table} WHERE state = 'dying' LIMIT ?1");
            dying.extend(self.all(&sql, (limit,), |row| {
                Ok(Dying { kind, name: row.get(0)?, bytes: unsigned(row.get(1)?) })
            })?);
        }
        Ok(dying)
    }

    /// Takes out a row whose files are in the trash; the bytes that are free when that is emptied.
    pub(crate) fn bury(&self, dead: &Dying) -> Result<u64> {
        let (table, name, _) = dead.kind.columns();
        let mut freed = dead.bytes;
        if dead.kind == Kind::Snapshot {
            self.run("DELETE FROM diffs WHERE snapshot = ?1", (&dead.name,))?;
            freed = self.leave_shared(&dead.name)?;
        }
        self.run(&format!("DELETE FROM {table} WHERE {name} = ?1"), (&dead.name,))?;
        Ok(freed)
    }

    /// Leaves the bytes that a snapshot shares to those that share them; gives those that nobody shares.
    fn leave_shared(&self, name: &str) -> Result<u64> {
        let Ok(id) = name.parse() else { return Ok(0) };
        let (freed, left) = Space::new(self.rooms_around(id)?).remove(&id);
        left.iter().try_for_each(|(sharer, room)| self.set_shared(*sharer, room))?;
        Ok(freed)
    }

    /// Returns whether anything is known about a file's name.
    pub(crate) fn knows(&self, kind: Kind, name: &str) -> Result<bool> {
        let (table, column, _) = kind.columns();
        Ok(self.one(&format!("SELECT 1 FROM {table} WHERE {column} = ?1"), (name,), |_| Ok(()))?.is_some())
    }

    /// Returns the digests of the images' rows whose chain holds what `lost` says.
    pub(crate) fn images_with(&self, lost: impl Fn(&SnapshotId) -> bool) -> Result<Vec<Digest>> {
        let images = self.images()?.into_iter();
        Ok(images.filter(|image| image.chain.iter().any(&lost)).map(|image| image.id).collect())
    }

    /// Returns the snapshots that another boot than `boot` left unflushed.
    pub(crate) fn lost(&self, boot: &str) -> Result<Vec<SnapshotId>> {
        self.all(
            "SELECT id FROM snapshots WHERE boot IS NOT NULL AND boot <> ?1 AND state = 'ready'",
            (boot,),
            |row| row.get(0),
        )
    }
}
