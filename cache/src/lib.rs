//! The content-addressed store: blobs, snapshots, build records and images, safe for several
//! processes at once and across `kill -9`.
//!
//! It knows digests and folders; it knows no registries, no Dockerfiles and no mounts. All IO is
//! blocking; [`Store`] is cheap to clone and may be shared by threads.
//!
//! ```text
//! version              the format; an unknown one is refused by name
//! lock                 shared in use, exclusive while the store is created
//! meta.db              SQLite: what exists, in which state, and who needs it
//! blobs/sha256/<hex>   configs, manifests, layers as pulled or pushed
//! snapshots/<id>/fs    the files of one layer in overlay form, never changed after their commit
//! snapshots/<id>/files what a copied layer was made of, see `file_list`
//! empty/               the lower of an empty chain
//! pins/<owner>         the snapshots that a container or a mount stands on, see `pin`
//! leases/<id>          held by flock while a process needs what it names in meta.db
//! inflight/<3 hex>     locks of keys in work, never unlinked
//! merged/<hex>         groups of layers as one folder each, for deep chains, see `stack`
//! stat/<context>       stat caches
//! builds/<hex>         what the last build of each Dockerfile did
//! cache-mounts/<hex>   folders that RUN steps keep between builds, see `cache_mount`
//! tmp/<id>             what is being made, held by flock
//! trash/<id>           what is being removed
//! gc.lock, reserve     one collector at a time; 1 MiB for the day when the disk is full
//! ```
//!
//! - **Birth**: `tmp/` is filled → rename, row and lease in one transaction; a blob has a row in state `staging` first.
//! - **Death**: a transaction rechecks the leases and pins and marks rows `dying` → another renames what still
//!   is `dying`, and wasn't pinned in time, into `trash/` and takes the rows out → `trash/` is emptied. The second step holds the
//!   write lock while it renames: a blob can be born again under its old name between both.
//! - **Crash**: a killed process leaves its locks free, and only garbage, for the next [`Store::gc`]
//!   and for a bounded sweep at the first write of a later process.
//! - **After death** a record stays without its snapshots, as *collected*: its keys still lead to its result id,
//!   by which the records of later steps are found. The collector bounds their number and their age.
//! - **Power loss**: blobs are flushed before their rename. Snapshots aren't: their rows carry the
//!   boot of their commit until [`Store::flush`]; after another boot they are dropped together with
//!   the records and images that name them.
//! - **Locks**, in this order: `gc.lock`, a key's lock, those of cache mounts (sorted), a lease's own mutex, a
//!   transaction that writes, the folder `pins`.

mod blob;
mod build_notes;
mod cache_mount;
mod check;
mod digest;
mod error;
mod file_list;
mod flush;
mod gc;
mod id;
mod image;
pub mod key;
mod lease;
mod lock;
mod meta;
mod pin;
mod record;
mod snapshot;
mod stack;
mod stat_cache;
mod store;
mod stream_hasher;
mod trash;

pub use blob::{Blob, BlobWriter, VerifyingReader};
pub use cache_mount::{CacheMount, CacheMountRequest, Sharing};
pub use check::{Fault, Inventory, Repaired, Severity, Subject};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use error::{Error, Result};
pub use file_list::{FileEntry, FileKind, FileList};
pub use gc::{Bounds, Doomed, Entry, Policy, Reason, Rule, Sweep, Swept, Usage};
pub use id::{ParseSnapshotIdError, SnapshotId};
pub use image::{Image, NewImage};
pub use lease::Lease;
pub use lock::{Attempt, KeyLock};
pub use meta::DatabaseError;
pub use record::{Found, Label, Record, RecordKind};
pub use snapshot::{Diff, LayerBlob, Mounts, Snapshot, Staged};
pub use stat_cache::{FileStat, StatCache};
pub use store::{Scratch, Store, View};
pub use stream_hasher::StreamHasher;
