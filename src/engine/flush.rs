//! Bringing what was stored to the disk, where nobody waits for it.
//!
//! A build and a pull end when their files are in the page cache. A process of its own then flushes the
//! filesystem, and marks the snapshots as safe from a power cut.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_cache::{Bounds, Policy, Store};

use super::Engine;

/// What follows a build at once, such as the next one, is not disturbed by the disk.
const PAUSE: Duration = Duration::from_millis(300);

/// The word that makes the program flush a store: `kiln _flush ROOT`.
pub const DOOR: &str = "_flush";

impl Engine {
    /// Starts the flush, if there is something to do, and doesn't wait for it. If all went well, the cache is kept within its bounds, too: what a
    /// build made that failed waits for the next one.
    ///
    /// Without it nothing is wrong; a power cut then costs what was stored since the last one.
    pub(super) fn flush_later(&self, went_well: bool) {
        // When the store can't say, a flush too many does no harm.
        if self.store().is_ok_and(|store| store.needs_flush().is_ok_and(|needed| !needed)) {
            return;
        }
        let policy = self.store().ok().filter(|_| went_well).and_then(|store| self.policy(store).ok()?);
        let started = Command::new("/proc/self/exe")
            .arg0("kiln")
            .arg(DOOR)
            .arg(&self.settings.root)
            .args(policy.as_ref().map(spell))
            .env_clear()
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

/// A policy as a word of the command line.
fn spell(policy: &Policy) -> String {
    let Policy { bounds: Bounds { reserved, max_used, min_free }, unused_for } = policy;
    format!("{reserved},{max_used},{min_free},{unused_for}")
}

fn parse(word: &str) -> Option<Policy> {
    let mut numbers = word.split(',').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let bounds = Bounds { reserved: next()?, max_used: next()?, min_free: next()? };
    Some(Policy { bounds, unused_for: i64::try_from(next()?).ok()? })
}

/// The process that flushes a store, `ROOT [POLICY]`, and then keeps its cache within the policy; gives the exit
/// code.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> i32 {
    let Some(root) = arguments.next().map(PathBuf::from) else { return 2 };
    // Here and not before the exec: with a folder to go to, the standard library forks, which copies all page tables.
    if std::env::set_current_dir("/").is_err() {
        return 2;
    }
    let policy = arguments.next().and_then(|word| parse(&word.to_string_lossy()));
    std::thread::sleep(PAUSE);
    if !root.join("version").exists() {
        // The store was removed meanwhile: opening it would make a new one.
        return 0;
    }
    let work = || {
        let store = Store::open(&root)?;
        store.flush_in_turn()?;
        policy.map_or(Ok(()), |policy| store.keep_within(&policy))
    };
    i32::from(work().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_parsed_as_it_is_spelled() {
        let policy = Policy::for_disk(1 << 40);
        assert_eq!(parse(&spell(&policy)), Some(policy));
        assert!(parse("").is_none() && parse("1,2,3").is_none() && parse("1,2,x,4").is_none());
    }
}
