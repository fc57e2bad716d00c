//! What nobody needs and the collector will take: leftovers of killed processes, files without a row.

use std::fs;
use std::path::Path;

use super::{Fault, Subject};
use crate::lock::abandoned;
use crate::meta::Kind;
use crate::store::RESERVE_BYTES;
use crate::{Error, Result, Store};

impl Store {
    /// Looks for what the collector would remove, and for folders that are no cache mounts.
    pub fn check_leftovers(&self) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        let mut tell = |place: &'static str, count: usize, what: &str| {
            if count > 0 {
                faults.push(Fault::garbage(Subject::Place(place), format!("{count} {what}")));
            }
        };
        tell("tmp", self.abandoned_in("tmp")?, "leftovers of processes that were killed");
        tell("leases", self.abandoned_in("leases")?, "leases of processes that were killed");
        tell("pins", usize::from(self.has_unfinished_pin()?), "leftovers of processes that were killed");
        tell("trash", names(&self.path("trash"))?.len(), "removed things wait to be deleted");
        // Rows of leases stay behind every process and count for nothing: they are no news.
        let (unfinished, dying) = self
            .meta()
            .read(|tx| Ok((tx.unfinished(|lease| self.is_alive(lease))?, tx.dying(u32::MAX)?.len())))?;
        tell("meta.db", unfinished, "things were never finished");
        tell("meta.db", dying, "things are on their way out");
        tell("snapshots", self.unknown(Kind::Snapshot)?, "folders belong to nothing");
        tell("blobs", self.unknown(Kind::Blob)?, "files belong to nothing");
        tell("stat", self.odd_stat_caches()?.len(), "caches of file times will not be read again");
        if fs::metadata(self.path("reserve")).map_or(0, |metadata| metadata.len()) != RESERVE_BYTES {
            let problem = "the room for the day when the disk is full is missing";
            faults.push(Fault::garbage(Subject::Place("reserve"), problem));
        }
        faults.extend(self.odd_cache_mounts()?);
        Ok(faults)
    }

    fn abandoned_in(&self, folder: &str) -> Result<usize> {
        let folder = self.path(folder);
        let mut count = 0;
        for name in names(&folder)? {
            count += usize::from(abandoned(&folder.join(name))?.is_some());
        }
        Ok(count)
    }

    /// Counts files without a row. Rows come first and go last, so a second look at the rows is the last word.
    fn unknown(&self, kind: Kind) -> Result<usize> {
        let names = names(&self.path(crate::gc::folder(kind)))?;
        self.meta().read(|tx| {
            let mut count = 0;
            for name in &names {
                count += usize::from(!tx.knows(kind, name)?);
            }
            Ok(count)
        })
    }

    fn odd_cache_mounts(&self) -> Result<Vec<Fault>> {
        let all = self.path("cache-mounts");
        let is_name = |name: &str| {
            name.split_once('.').is_some_and(|(hex, number)| {
                hex.len() == 64
                    && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && number.parse::<u32>().is_ok()
            })
        };
        let is_sound = |name: &str| {
            let folder = all.join(name);
            is_name(name) && folder.is_dir() && (!folder.join("fs").exists() || folder.join("fs").is_dir())
        };
        let odd = names(&all)?.into_iter().filter(|name| !is_sound(name));
        let fault = |name| Fault::damage(Subject::CacheMount(name), "is no cache that a step could mount");
        // One that a collector took away between both looks is gone by now.
        Ok(odd.filter(|name| all.join(name).symlink_metadata().is_ok()).map(fault).collect())
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}
