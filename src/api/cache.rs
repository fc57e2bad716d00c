//! What the build cache holds, and what of it should go.

use std::time::Duration;

/// BuildKit's names of what may be in a cache.
pub const CACHE_KINDS: [&str; 6] =
    ["regular", "source.local", "exec.cachemount", "source.git.checkout", "frontend", "internal"];

/// One thing in the build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// Its id.
    pub id: String,
    /// BuildKit's name of what it is: `regular`, `exec.cachemount`, …
    pub kind: &'static str,
    /// The step that made it, or the name of a cache mount.
    pub description: String,
    /// The ids of what it stands on.
    pub parents: Vec<String>,
    /// When it was made, unix seconds.
    pub created: i64,
    /// When it was used last, unix seconds.
    pub used: i64,
    /// In how many hours it was used.
    pub uses: u64,
    /// Its bytes on the disk.
    pub bytes: u64,
    /// Steps write to it.
    pub mutable: bool,
    /// A running build or a container needs it.
    pub in_use: bool,
    /// An image has it, too.
    pub shared: bool,
    /// Its removal frees its bytes.
    pub reclaimable: bool,
}

/// Which things of the cache are meant: those that fit all of the conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheFilter {
    /// What has to be true.
    pub conditions: Vec<CacheCondition>,
}

/// Something that is true of a thing of the cache, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheCondition {
    /// `id`
    Id(TextCondition),
    /// `type`
    Kind(TextCondition),
    /// `description`
    Description(TextCondition),
    /// `parents`: one of them.
    Parents(TextCondition),
    /// `until`, `unused-for`
    UnusedFor(Duration),
    /// `inuse`
    InUse(bool),
    /// `mutable`; `immutable` is its contrary.
    Mutable(bool),
    /// `shared`; `private` is its contrary.
    Shared(bool),
}

/// What is asked of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextCondition {
    /// `==`
    Is(String),
    /// `!=`
    IsNot(String),
    /// `~=`: it has this part; `^` and `$` are its beginning and its end.
    Has(String),
}

impl CacheFilter {
    /// Tells whether `entry` is meant, at `now` in unix seconds.
    pub fn fits(&self, entry: &CacheEntry, now: i64) -> bool {
        self.conditions.iter().all(|condition| condition.fits(entry, now))
    }
}

impl CacheCondition {
    fn fits(&self, entry: &CacheEntry, now: i64) -> bool {
        match self {
            Self::Id(text) => text.fits(&entry.id),
            Self::Kind(text) => text.fits(entry.kind),
            Self::Description(text) => text.fits(&entry.description),
            Self::Parents(TextCondition::IsNot(id)) => !entry.parents.contains(id),
            Self::Parents(text) => entry.parents.iter().any(|parent| text.fits(parent)),
            Self::UnusedFor(span) => u64::try_from(now - entry.used).is_ok_and(|age| age >= span.as_secs()),
            Self::InUse(wanted) => entry.in_use == *wanted,
            Self::Mutable(wanted) => entry.mutable == *wanted,
            Self::Shared(wanted) => entry.shared == *wanted,
        }
    }
}

impl TextCondition {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => text == wanted,
            Self::IsNot(unwanted) => text != unwanted,
            Self::Has(part) => {
                let (part, at_start) = part.strip_prefix('^').map_or((&part[..], false), |part| (part, true));
                let (part, at_end) = part.strip_suffix('$').map_or((part, false), |part| (part, true));
                match (at_start, at_end) {
                    (true, true) => text == part,
                    (true, false) => text.starts_with(part),
                    (false, true) => text.ends_with(part),
                    (false, false) => text.contains(part),
                }
            }
        }
    }
}

/// `kiln cache prune`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachePruneRequest {
    /// What may go.
    pub filter: CacheFilter,
    /// Also the records of what images have, and kiln's own things.
    pub all: bool,
    /// Bytes that may stay in any case; 0 is none.
    pub reserved: u64,
    /// The most bytes that may stay; 0 is no bound.
    pub max_used: u64,
    /// Bytes of the disk that should be free; 0 is no bound.
    pub min_free: u64,
    /// Only tell.
    pub dry_run: bool,
}

/// Something that went, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePruned {
    /// What.
    pub entry: CacheEntry,
    /// Why.
    pub reason: CacheReason,
    /// The bytes that this freed.
    pub freed: u64,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheReason {
    /// It fits what was asked for.
    Asked,
    /// It wasn't used for so long.
    Unused(Duration),
    /// The cache takes more than it may, and this was used longest ago.
    OverQuota,
    /// The disk has too little free room, and this was used longest ago.
    DiskFull,
    /// What it stands on goes.
    ParentGoes,
    /// Nothing leads to it any more.
    Unreached,
}

/// What a prune of the cache did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachePruneReport {
    /// What went, in this order.
    pub pruned: Vec<CachePruned>,
    /// The bytes that are free now.
    pub bytes: u64,
}

/// Bytes, or a part of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// Percents of the disk.
    Percent(u8),
}

/// What the cache is kept to after builds, where it differs from the defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// `KILN_CACHE_GC=off`: nothing is removed after builds.
    pub off: bool,
    /// `KILN_CACHE_MAX`: the most that it may take.
    pub max_used: Option<Share>,
    /// `KILN_CACHE_RESERVED`: what it always may take.
    pub reserved: Option<Share>,
    /// `KILN_CACHE_MIN_FREE`: what should stay free of the disk.
    pub min_free: Option<Share>,
    /// `KILN_CACHE_UNUSED_FOR`: after how long unused things go; zero is never.
    pub unused_for: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_may_be_bound_to_its_ends() {
        for (part, text, expected) in [
            ("npm", "RUN npm install", true),
            ("^RUN", "RUN npm install", true),
            ("^npm", "RUN npm install", false),
            ("install$", "RUN npm install", true),
            ("^RUN$", "RUN npm install", false),
            ("", "anything", true),
        ] {
            assert_eq!(TextCondition::Has(part.to_owned()).fits(text), expected, "{part}");
        }
    }
}
