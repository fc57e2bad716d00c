//! Which things go: by what was asked, by age, by size, by the room that is left on the disk. Pure.
//!
//! 1. Of what a rule matches, nothing goes that a build or a container needs, or that was used lately.
//! 2. A rule without bounds takes all of it, and what stands on it.
//! 3. A rule with bounds takes what was used longest ago, until the rest fits. What stands on a thing goes before
//!    it: its own last use counts for all that it stands on.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::usage::{Entry, Usage, What};
use crate::{RecordKind, SnapshotId};

/// Seconds of a day.
const DAY: i64 = 24 * 3600;

/// Decimal gigabyte, in which BuildKit's own defaults are.
const GB: u64 = 1_000_000_000;

/// How much the cache may take. What images have doesn't count; 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// It always may take this much.
    pub reserved: u64,
    /// The most that it may take.
    pub max_used: u64,
    /// Bytes of the disk that should stay free.
    pub min_free: u64,
}

impl Bounds {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// How much may stay of `total` bytes while `free` bytes of the disk are free, and what says so.
    pub(super) fn keep(&self, total: u64, free: u64) -> (u64, Reason) {
        let (mut keep, mut reason) = (self.max_used, Reason::OverQuota);
        if self.max_used == 0 && self.min_free > 0 {
            keep = u64::MAX;
        }
        let wanted = self.min_free.saturating_sub(free);
        if wanted > 0 && total.saturating_sub(wanted) < keep {
            (keep, reason) = (total.saturating_sub(wanted), Reason::DiskFull);
        }
        (keep.max(self.reserved), reason)
    }
}

/// One rule of what goes.
pub struct Rule<'a> {
    /// What it is about.
    pub matches: &'a dyn Fn(&Entry) -> bool,
    /// Also what images share: a build that finds nothing any more, though nothing is freed.
    pub shared: bool,
    /// Also what kiln has for itself.
    pub internal: bool,
    /// Only what wasn't used for this many seconds.
    pub unused_for: i64,
    /// Only as much as is needed to keep these; all of it when none is set.
    pub bounds: Bounds,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The rule asked for it.
    Asked,
    /// It wasn't used for this many seconds.
    Unused(i64),
    /// The cache takes more than it may, and this was used longest ago.
    OverQuota,
    /// The disk has less free room than it should, and this was used longest ago.
    DiskFull,
    /// What it stands on goes.
    ParentGoes,
    /// Nothing leads to it any more.
    Unreached,
}

/// Something that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// What.
    pub entry: Entry,
    /// Why.
    pub reason: Reason,
    /// The bytes that are free when this and all before it are gone.
    pub freed: u64,
}

/// The bounds that are kept after builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For the cache as a whole.
    pub bounds: Bounds,
    /// Seconds after which unused things go, whatever room there is; 0 is never.
    pub unused_for: i64,
}

impl Policy {
    /// Files of contexts and of other machines, and cache mounts, are easy to get again: they go after two days,
    /// when the cache has more than 512 MB.
    const SOURCES: (i64, u64) = (2 * DAY, 512_000_000);

    /// BuildKit's defaults for a disk of `total` bytes.
    pub fn for_disk(total: u64) -> Self {
        let percent = |percent| total / 100 * percent;
        let bounds = Bounds {
            reserved: percent(10).min(10 * GB),
            max_used: percent(80).min(100 * GB),
            min_free: percent(20),
        };
        Self { bounds, unused_for: 60 * DAY }
    }

    /// The rules that this comes to.
    pub(super) fn rules(&self) -> Vec<Rule<'static>> {
        let (unused_for, max_used) = Self::SOURCES;
        let sources = Bounds { max_used, ..Bounds::default() };
        let rule = |unused_for, bounds| Rule {
            matches: &|_: &Entry| true,
            shared: false,
            internal: true,
            unused_for,
            bounds,
        };
        let mut rules = vec![Rule { matches: &is_source, ..rule(unused_for, sources) }];
        if self.unused_for > 0 {
            rules.push(rule(self.unused_for, Bounds::default()));
        }
        if self.bounds.any() {
            rules.push(rule(0, self.bounds));
        }
        rules
    }

    /// Whether, by these figures of the whole store, anything might have to go.
    pub(super) fn may_be_passed(&self, figures: &Figures) -> bool {
        let Figures { bytes, free, unused_for, sources_unused_for } = *figures;
        (self.unused_for > 0 && unused_for >= self.unused_for)
            || (bytes > Self::SOURCES.1 && sources_unused_for >= Self::SOURCES.0)
            || (self.bounds.any() && bytes > self.bounds.keep(bytes, free).0)
    }
}

/// What is known of a store in a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// What the cache takes at most: images are counted, too.
    pub(super) bytes: u64,
    /// The free bytes of the disk.
    pub(super) free: u64,
    /// For how many seconds the longest unused thing is unused.
    pub(super) unused_for: i64,
    /// And of those that are easy to get again.
    pub(super) sources_unused_for: i64,
}

fn is_source(entry: &Entry) -> bool {
    matches!(entry.kind, RecordKind::LocalSource | RecordKind::CacheMount | RecordKind::GitCheckout)
}

/// Chooses what goes by `rules`, one after the other, on a disk with `free` bytes at `now`.
pub(super) fn choose(usage: Usage, rules: &[Rule<'_>], free: u64, now: i64) -> Vec<Doomed> {
    let mut choice = Choice::new(usage);
    choice.take_unreached();
    for rule in rules {
        choice.apply(rule, free, now);
    }
    choice.doomed
}

/// A choice in the making.
struct Choice {
    /// What can go, the longest unused first and what stands on a thing before it; `None` once it goes.
    entries: Vec<Option<Entry>>,
    usage: Usage,
    /// How many records have a snapshot in their chain.
    users: HashMap<SnapshotId, usize>,
    /// Where those are that no record ends with.
    layers: HashMap<SnapshotId, usize>,
    /// How many have it below their own.
    standing: HashMap<SnapshotId, usize>,
    /// What the cache takes without that which images have.
    total: u64,
    freed: u64,
    doomed: Vec<Doomed>,
}

impl Choice {
    fn new(mut usage: Usage) -> Self {
        let mut entries = std::mem::take(&mut usage.entries);
        entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.used, Reverse(entry.chain.len()), entry.created);
            key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
        });
        let total = entries.iter().filter(|entry| !entry.shared).map(|entry| entry.bytes).sum();
        let (mut users, mut standing) = (HashMap::new(), HashMap::new());
        for entry in entries.iter().filter(|entry| matches!(entry.what, What::Record(_))) {
            for id in &entry.chain {
                *users.entry(*id).or_default() += 1;
            }
            for id in entry.chain.iter().rev().skip(1) {
                *standing.entry(*id).or_default() += 1;
            }
        }
        let layers = entries.iter().enumerate().filter(|(_, entry)| entry.what == What::Layer);
        let layers = layers.filter_map(|(index, entry)| Some((*entry.chain.last()?, index))).collect();
        let entries = entries.into_iter().map(Some).collect();
        Self { entries, usage, users, layers, standing, total, freed: 0, doomed: Vec::new() }
    }

    /// Takes the layers that no record, image or process has: any collection does.
    fn take_unreached(&mut self) {
        for index in 0..self.entries.len() {
            let Some(entry) = &self.entries[index] else { continue };
            let has_user = entry.chain.iter().any(|id| self.users.contains_key(id));
            if entry.what == What::Layer && entry.is_reclaimable() && !has_user {
                self.take(index, Reason::Unreached);
            }
        }
    }

    fn apply(&mut self, rule: &Rule<'_>, free: u64, now: i64) {
        for index in 0..self.entries.len() {
            let Some(entry) = &self.entries[index] else { continue };
            if !may_go(entry, rule, now) {
                continue;
            }
            if !rule.bounds.any() {
                let reason = match rule.unused_for {
                    0 => Reason::Asked,
                    _ => Reason::Unused(now - entry.used),
                };
                self.take_with_children(index, reason);
                continue;
            }
            let (keep, reason) = rule.bounds.keep(self.total, free.saturating_add(self.freed));
            if self.total <= keep {
                return;
            }
            if !self.has_children(entry) {
                self.take(index, reason);
            }
        }
    }

    fn has_children(&self, entry: &Entry) -> bool {
        let top = entry.chain.last();
        top.is_some_and(|top| self.standing.get(top).is_some_and(|standing| *standing > 0))
    }

    /// Takes an entry, and first what stands on it.
    fn take_with_children(&mut self, index: usize, reason: Reason) {
        let Some(entry) = &self.entries[index] else { return };
        if self.has_children(entry)
            && let Some(top) = entry.chain.last().copied()
        {
            let stands_on_it = |other: &Entry| other.chain.iter().rev().skip(1).any(|id| *id == top);
            let mut children: Vec<usize> = (0..self.entries.len())
                .filter(|other| self.entries[*other].as_ref().is_some_and(stands_on_it))
                .collect();
            children.sort_by_key(|child| Reverse(self.entries[*child].as_ref().map(|e| e.chain.len())));
            for child in children {
                self.take(child, Reason::ParentGoes);
            }
        }
        self.take(index, reason);
    }

    fn take(&mut self, index: usize, reason: Reason) {
        let Some(entry) = self.entries[index].take() else { return };
        let (mut freed, mut left) = (0, Vec::new());
        match entry.what {
            What::Mount(_) => freed = entry.bytes,
            What::Layer => freed = entry.chain.iter().map(|id| self.usage.space.remove(id).0).sum(),
            What::Record(_) => {
                for id in entry.chain.iter().rev().skip(1) {
                    self.standing.entry(*id).and_modify(|standing| *standing -= 1);
                }
                for id in &entry.chain {
                    let users = self.users.entry(*id).or_insert(1);
                    *users -= 1;
                    if *users > 0 || self.usage.held.contains(id) {
                        continue;
                    }
                    match self.layers.get(id) {
                        Some(layer) => left.push(*layer),
                        None => freed += self.usage.space.remove(id).0,
                    }
                }
            }
        }
        self.freed += freed;
        self.total = self.total.saturating_sub(freed);
        self.doomed.push(Doomed { entry, reason, freed });
        for layer in left {
            self.take(layer, Reason::Unreached);
        }
    }
}

/// Whether a rule may take `entry`. A layer without a record goes with those that stand on it.
fn may_go(entry: &Entry, rule: &Rule<'_>, now: i64) -> bool {
    let for_itself = matches!(entry.kind, RecordKind::Internal | RecordKind::Frontend);
    !entry.in_use
        && entry.what != What::Layer
        && (rule.shared || !entry.shared)
        && (rule.internal || !for_itself)
        && (rule.unused_for == 0 || now - entry.used >= rule.unused_for)
        && (rule.matches)(entry)
}
