//! Bringing what was stored to the disk, where nobody waits for it.
//!
//! A build and a pull end when their files are in the page cache. A process of its own then flushes the
//! filesystem, and marks the snapshots as safe from a power cut.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kiln_cache::Store;

use super::Engine;

/// The word that makes the program flush a store: `kiln _flush ROOT`.
pub const DOOR: &str = "_flush";

impl Engine {
    /// Starts the flush and doesn't wait for it.
    ///
    /// Without it nothing is wrong; a power cut then costs what was stored since the last one.
    pub(super) fn flush_later(&self) {
        // When the store can't say, a flush too many does no harm.
        if self.store().is_ok_and(|store| store.needs_flush().is_ok_and(|needed| !needed)) {
            return;
        }
        let started = Command::new("/proc/self/exe")
            .arg0("kiln")
            .arg(DOOR)
            .arg(&self.settings.root)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start the flush");
        }
    }
}

/// The process that flushes the store at `root`; gives the exit code.
pub fn main(root: Option<OsString>) -> i32 {
    let Some(root) = root.map(PathBuf::from) else { return 2 };
    if !root.join("version").exists() {
        // The store was removed meanwhile: opening it would make a new one.
        return 0;
    }
    // Steps of a running build come first.
    let _ = rustix::process::nice(10);
    i32::from(Store::open(&root).and_then(|store| store.flush_in_turn()).is_err())
}
