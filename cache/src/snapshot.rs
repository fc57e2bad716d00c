//! Snapshots: the files of one layer each, in overlay form, never changed after their commit.
//!
//! The store gives folders and says which lie below which; mounting them is the caller's work.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::lock::Claim;
use crate::stat_cache::checksum;
use crate::store::is_tight;
use crate::{Digest, Error, Lease, Result, SnapshotId, Store, trash};

/// The layers of an overlay mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mounts {
    /// The read-only folders, topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The folder that takes all changes.
    pub upper: Option<PathBuf>,
    /// The overlay's own folder, on the filesystem of `upper`.
    pub work: Option<PathBuf>,
}

/// The canonical tar of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diff {
    /// The layer's diffID: the digest of the tar.
    pub id: Digest,
    /// The size of the tar.
    pub tar_bytes: u64,
}

/// A packed layer that unpacks to some diffID.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerBlob {
    /// The digest of the packed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// What they are, as a manifest says it.
    pub media_type: String,
}

/// The file of [`Store::set_tar_marks`], beside the folder `fs`.
const TAR_MARKS: &str = "marks";

/// What follows the marks in it.
const CHECKSUM_BYTES: usize = size_of::<u64>();

/// The rule of times by which a tar keeps the times of the files.
pub(crate) const TIMES_KEPT: i64 = 0;

/// What is known about a snapshot at its commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its diff, when it is known already.
    pub diff: Option<Diff>,
    /// The bytes of its files.
    pub bytes: u64,
    /// Those of them that are links to, or clones of, files of another snapshot: they take no room of their own
    /// while that one is there.
    pub shared_bytes: u64,
    /// Which other one.
    pub shared_with: Option<SnapshotId>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// A snapshot in the making, under `tmp/`; dropped without a commit, it is removed.
#[derive(Debug)]
pub struct Staged {
    store: Store,
    lease: Lease,
    id: SnapshotId,
    claim: Claim,
    committed: bool,
}

impl Store {
    /// Begins a snapshot: an empty folder to fill, and one for an overlay's own use.
    ///
    /// Nothing is written down yet: the folder is kept by its flock, and goes with it.
    pub fn stage(&self, lease: &Lease) -> Result<Staged> {
        let id = SnapshotId::fresh();
        let claim = Claim::new_folder(&self.path("tmp").join(id.to_string()))?;
        let staged = Staged { store: self.clone(), lease: lease.clone(), id, claim, committed: false };
        for path in [staged.fs(), staged.work()] {
            DirBuilder::new().mode(0o755).create(&path).map_err(Error::io("create", &path))?;
        }
        // The umask must not decide how the root of a container looks.
        let fs_folder = staged.fs();
        fs::set_permissions(&fs_folder, Permissions::from_mode(0o755))
            .map_err(Error::io("create", &fs_folder))?;
        Ok(staged)
    }

    /// Returns the folder of a snapshot's files, which nobody may change.
    pub fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.path("snapshots").join(id.to_string()).join("fs")
    }

    /// Returns the layers that show `chain` (base first), with changes going to `staged`: see [`Store::stack`].
    pub fn overlay(&self, chain: &[SnapshotId], staged: Option<&Staged>) -> Mounts {
        let mut lowers = self.stack(chain);
        lowers.reverse();
        if lowers.is_empty() {
            lowers.push(self.path("empty"));
        }
        Mounts { lowers, upper: staged.map(Staged::fs), work: staged.map(Staged::work) }
    }

    /// Returns the diff of a snapshot, `None` while nobody computed it.
    pub fn diff(&self, id: &SnapshotId) -> Result<Option<Diff>> {
        self.diff_by_rule(id, TIMES_KEPT)
    }

    /// Keeps the diff of a snapshot.
    pub fn set_diff(&self, id: &SnapshotId, diff: &Diff) -> Result<()> {
        self.set_diff_by_rule(id, TIMES_KEPT, diff)
    }

    /// Returns the diff that a snapshot has by a rule of times: 0 keeps the times of the files, what other numbers
    /// mean is the caller's.
    pub fn diff_by_rule(&self, id: &SnapshotId, rule: i64) -> Result<Option<Diff>> {
        self.meta().read(|tx| tx.diff(*id, rule))?.ok_or(Error::NoSnapshot { id: *id })
    }

    /// Keeps the diff that a snapshot has by a rule of times.
    pub fn set_diff_by_rule(&self, id: &SnapshotId, rule: i64, diff: &Diff) -> Result<()> {
        let known = self.meta().write(|tx| tx.set_diff(*id, rule, diff))?;
        if known { Ok(()) } else { Err(Error::NoSnapshot { id: *id }) }
    }

    /// Returns the diffs of a snapshot that are known, each with the number of its rule of times.
    pub fn diffs(&self, id: &SnapshotId) -> Result<Vec<(i64, Diff)>> {
        self.meta().read(|tx| tx.diffs(*id))
    }

    /// Returns the snapshot that this one shares files with: [`Snapshot::shared_with`].
    pub fn shared_with(&self, id: &SnapshotId) -> Result<Option<SnapshotId>> {
        self.meta().read(|tx| tx.shared_with(*id))
    }

    /// Returns what [`Store::set_tar_marks`] kept; `None` if that is nothing, or damaged.
    pub fn tar_marks(&self, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
        let path = self.snapshot_dir(id).with_file_name(TAR_MARKS);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let is_whole = bytes.len() >= CHECKSUM_BYTES
            && bytes.split_off(bytes.len() - CHECKSUM_BYTES) == checksum(&bytes).to_le_bytes();
        Ok(is_whole.then_some(bytes))
    }

    /// Keeps `marks`, which are the caller's, beside a snapshot's files. They may be lost.
    pub fn set_tar_marks(&self, id: &SnapshotId, marks: &[u8]) -> Result<()> {
        let path = self.snapshot_dir(id).with_file_name(TAR_MARKS);
        let half = path.with_added_extension(SnapshotId::fresh().to_string());
        let written = fs::write(&half, [marks, &checksum(marks).to_le_bytes()].concat());
        let renamed = written.and_then(|()| fs::rename(&half, &path));
        renamed.inspect_err(|_| drop(fs::remove_file(&half))).map_err(Error::io("write", &path))
    }

    /// Returns the bytes of a snapshot's files.
    pub fn snapshot_bytes(&self, id: &SnapshotId) -> Result<u64> {
        self.meta().read(|tx| tx.snapshot_bytes(*id))?.ok_or(Error::NoSnapshot { id: *id })
    }

    /// Returns a snapshot that holds the layer with this diffID.
    pub fn layer_snapshot(&self, diff_id: &Digest) -> Result<Option<SnapshotId>> {
        self.meta().read(|tx| tx.snapshot_of_layer(diff_id))
    }

    /// Keeps `blob` as long as a snapshot holds the layer that it unpacks to; call it after that
    /// snapshot's commit.
    pub fn add_layer_blob(&self, diff_id: &Digest, blob: &LayerBlob) -> Result<()> {
        if self.layer_blobs(diff_id)?.contains(blob) {
            return Ok(());
        }
        self.meta().write(|tx| tx.add_layer_blob(diff_id, blob))
    }

    /// Returns the blobs known to unpack to the layer with this diffID.
    pub fn layer_blobs(&self, diff_id: &Digest) -> Result<Vec<LayerBlob>> {
        self.meta().read(|tx| tx.layer_blobs(diff_id))
    }
}

impl Staged {
    /// Returns the name that the snapshot will have.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Returns the folder to fill.
    pub fn fs(&self) -> PathBuf {
        self.claim.path().join("fs")
    }

    /// Returns the folder for an overlay's own use.
    pub fn work(&self) -> PathBuf {
        self.claim.path().join("work")
    }

    /// Returns the store that it is made in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the lease that keeps this snapshot.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Seals the snapshot and makes it visible; nothing may be mounted on it or write to it any more.
    ///
    /// Its files may still be in the page cache only, until [`Store::flush`].
    pub fn commit(mut self, snapshot: Snapshot) -> Result<SnapshotId> {
        self.store.discard(&self.work())?;
        let target = self.store.path("snapshots").join(self.id.to_string());
        // The rename is part of the transaction: a collector that finds a folder without a row looks again in one
        // of its own, before or after this.
        self.lease.write_snapshot(self.id, |tx| {
            fs::rename(self.claim.path(), &target).map_err(Error::io("create", &target))?;
            tx.finish_snapshot(self.id, &snapshot, self.store.boot())
        })?;
        self.committed = true;
        Ok(self.id)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // Out of sight at once: a build that is stopped doesn't wait until all that it had half made is removed,
            // unless the room is wanted. What can't be removed now stays for the collector.
            let _ = match is_tight(self.store.root()) {
                true => trash::remove_tree(self.claim.path(), &self.store.path("trash")).is_ok(),
                false => self.store.discard(self.claim.path()).is_ok(),
            };
        }
    }
}
