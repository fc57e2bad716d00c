//! Images at rest: between registry, archive, store and snapshots.
//!
//! ```text
//! registry ──pull──┐                       ┌──push──▶ registry
//! archive  ──load──┼─▶ ingest ─▶ store ─▶ packed ──save──▶ archive
//! rootfs   ─import─┘      snapshots + config ◀── assemble ── build
//! ```
//!
//! An image's id is the digest of its config, as for docker. The store keeps each layer as files
//! (a snapshot) and, when it came from outside, as the very blob it came in; what was pulled is pushed
//! and saved unchanged. Everything from outside is hostile: sizes are bounded, digests verified, and a
//! name appears only when all that it needs is in the store. Nothing here runs a process or mounts.

mod assemble;
mod check;
mod commit;
mod error;
mod export;
mod find;
mod history;
mod import;
mod ingest;
mod inspect;
pub mod layer;
mod load;
mod packed;
mod pull;
mod push;
mod remove;
mod save;

pub use assemble::{Assembly, assemble, compute_diff};
pub use check::{check_image, check_snapshot};
pub use commit::{Commit, commit};
pub use error::{Error, Result};
pub use export::{export_dir, export_tar};
pub use find::{by_reference, config, find, lookup};
pub use history::history;
pub use import::{Import, import};
pub use inspect::{familiar, inspect};
pub use load::{Loaded, from_layout, load};
pub use pull::{PullStatus, Pulled, Remote, Sink, Sought, pull, seek};
pub use push::{Pushed, push};
pub use remove::{ImageUse, forget, remove};
pub use save::{ArchiveKind, Saved, save};
