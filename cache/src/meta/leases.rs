//! Rows of what running processes need.

use super::{Tx, signed};
use crate::{Digest, Result, SnapshotId};

impl Tx<'_> {
    /// Notes that `lease` needs a snapshot.
    pub(crate) fn lease_snapshot(&self, lease: &str, id: SnapshotId) -> Result<()> {
        self.run("INSERT OR IGNORE INTO lease_snapshots (lease, snapshot) VALUES (?1, ?2)", (lease, id))
            .map(drop)
    }

    /// Notes that `lease` needs a blob.
    pub(crate) fn lease_blob(&self, lease: &str, digest: &Digest) -> Result<()> {
        self.run("INSERT OR IGNORE INTO lease_blobs (lease, blob) VALUES (?1, ?2)", (lease, digest)).map(drop)
    }

    /// Returns up to `limit` leases that need something.
    pub(crate) fn leases(&self, limit: usize) -> Result<Vec<String>> {
        let all = "SELECT lease FROM lease_snapshots UNION SELECT lease FROM lease_blobs LIMIT ?1";
        self.all(all, (signed(limit as u64),), |row| row.get(0))
    }

    /// Forgets what `lease` needed.
    pub(crate) fn drop_lease(&self, lease: &str) -> Result<()> {
        self.run("DELETE FROM lease_snapshots WHERE lease = ?1", (lease,))?;
        self.run("DELETE FROM lease_blobs WHERE lease = ?1", (lease,)).map(drop)
    }
}
