//! Rows of blobs.

use super::{Tx, signed, unsigned};
use crate::{Digest, Result};

impl Tx<'_> {
    /// Returns the size of a ready blob.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.one("SELECT size FROM blobs WHERE digest = ?1 AND state = 'ready'", (digest,), |row| row.get(0))
            .map(|size| size.map(unsigned))
    }

    /// Enters a blob that is about to be renamed into place; one that was dying lives on, and one that
    /// another writer finished stays ready.
    pub(crate) fn stage_blob(&self, digest: &Digest, size: u64) -> Result<()> {
        self.run(
            "INSERT INTO blobs (digest, state, size) VALUES (?1, 'staging', ?2)
             ON CONFLICT DO UPDATE SET state = 'staging', size = ?2 WHERE state = 'dying'",
            (digest, signed(size)),
        )
        .map(drop)
    }

    /// Marks a blob, whose file is in place, ready.
    pub(crate) fn finish_blob(&self, digest: &Digest, size: u64) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO blobs (digest, state, size) VALUES (?1, 'ready', ?2)",
            (digest, signed(size)),
        )
        .map(drop)
    }

    /// Takes a blob out of use: its file is damaged.
    pub(crate) fn retire_blob(&self, digest: &Digest) -> Result<()> {
        self.run("UPDATE blobs SET state = 'dying' WHERE digest = ?1", (digest,)).map(drop)
    }
}
