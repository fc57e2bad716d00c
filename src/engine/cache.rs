//! `kiln cache`, and what keeps it within bounds after builds.

use std::time::Duration;

use kiln_cache::{Bounds, Doomed, Entry, Policy, Reason, Rule, Store};

use super::Engine;
use crate::api::{
    CacheBounds, CacheEntry, CacheFilter, CachePruneReport, CachePruneRequest, CachePruned, CacheReason,
    Failure, Share,
};
use crate::image;

impl Engine {
    /// Lists what is in the build cache and fits `filter`, what was used last first.
    pub fn cache_entries(&self, filter: &CacheFilter) -> Result<Vec<CacheEntry>, Failure> {
        let usage = self.store()?.usage().map_err(image::Error::from)?;
        let now = now();
        let mut entries: Vec<CacheEntry> = usage.entries.iter().map(shown).collect();
        entries.retain(|entry| filter.fits(entry, now));
        entries.sort_by(|a, b| b.used.cmp(&a.used).then(b.created.cmp(&a.created)).then(a.id.cmp(&b.id)));
        Ok(entries)
    }

    /// Removes what `request` asks for from the build cache, or tells what that would be.
    pub fn prune_cache(&self, request: &CachePruneRequest) -> Result<CachePruneReport, Failure> {
        let CachePruneRequest { filter, all, reserved, max_used, min_free, dry_run } = request;
        let now = now();
        let matches = |entry: &Entry| filter.fits(&shown(entry), now);
        let bounds = Bounds { reserved: *reserved, max_used: *max_used, min_free: *min_free };
        let rules = [Rule { matches: &matches, shared: *all, internal: *all, unused_for: 0, bounds }];
        let (doomed, bytes) = match dry_run {
            true => {
                let doomed = self.store()?.plan(&rules).map_err(image::Error::from)?;
                let bytes = doomed.iter().map(|one| one.freed).sum();
                (doomed, bytes)
            }
            false => {
                let store = self.store_to_shrink()?;
                self.containers().mend_pins(store).map_err(super::containers::failure)?;
                store.prune(&rules).map_err(image::Error::from)?
            }
        };
        Ok(CachePruneReport { pruned: doomed.iter().map(pruned).collect(), bytes })
    }

    /// What the cache is kept to after builds; `None` when that is switched off.
    pub(super) fn policy(&self, store: &Store) -> kiln_cache::Result<Option<Policy>> {
        let CacheBounds { off, max_used, reserved, min_free, unused_for } = self.settings.cache;
        if off {
            return Ok(None);
        }
        let mut policy = store.default_policy()?;
        let disk = store.disk_bytes()?;
        for (share, bound) in [
            (max_used, &mut policy.bounds.max_used),
            (reserved, &mut policy.bounds.reserved),
            (min_free, &mut policy.bounds.min_free),
        ] {
            *bound = share.map_or(*bound, |share| bytes_of(share, disk));
        }
        if let (Some(_), None) = (max_used, reserved) {
            // Who says how much it may take doesn't mean that it may take more.
            policy.bounds.reserved = policy.bounds.reserved.min(policy.bounds.max_used);
        }
        if let Some(span) = unused_for {
            policy.unused_for = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        }
        Ok(Some(policy))
    }
}

fn bytes_of(share: Share, disk: u64) -> u64 {
    match share {
        Share::Bytes(bytes) => bytes,
        Share::Percent(percent) => disk / 100 * u64::from(percent),
    }
}

fn shown(entry: &Entry) -> CacheEntry {
    CacheEntry {
        id: entry.id.clone(),
        kind: entry.kind.name(),
        description: entry.description.clone(),
        parents: entry.parents.clone(),
        created: entry.created,
        used: entry.used,
        uses: entry.uses,
        bytes: entry.bytes,
        mutable: entry.mutable,
        in_use: entry.in_use,
        shared: entry.shared,
        reclaimable: entry.is_reclaimable(),
    }
}

fn pruned(doomed: &Doomed) -> CachePruned {
    let reason = match doomed.reason {
        Reason::Asked => CacheReason::Asked,
        Reason::Unused(seconds) => CacheReason::Unused(Duration::from_secs(seconds.unsigned_abs())),
        Reason::OverQuota => CacheReason::OverQuota,
        Reason::DiskFull => CacheReason::DiskFull,
        Reason::ParentGoes => CacheReason::ParentGoes,
        Reason::Unreached => CacheReason::Unreached,
    };
    CachePruned { entry: shown(&doomed.entry), reason, freed: doomed.freed }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn kinds_are_called_alike_everywhere() {
        assert_eq!(kiln_cache::RecordKind::ALL.map(kiln_cache::RecordKind::name), crate::api::CACHE_KINDS);
    }
}
