//! What is in the cache, thing by thing.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::space::{Room, Space};
use crate::cache_mount::MountUse;
use crate::meta::RecordRow;
use crate::{Digest, RecordKind, Result, SnapshotId, Store};

/// Digits of a record's id: of its result's digest, the first ones. As many as BuildKit's ids have.
const ID_DIGITS: usize = 25;

/// One thing in the cache: a step's result, a cache mount, or a layer that came with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names it; stays the same as long as it exists.
    pub id: String,
    /// What it is.
    pub kind: RecordKind,
    /// What people are told of it.
    pub description: String,
    /// The ids of what it stands on.
    pub parents: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it, or what stands on it, was used last. Known to the hour.
    pub used: i64,
    /// In how many hours it was used.
    pub uses: u64,
    /// What it takes on the disk by itself.
    pub bytes: u64,
    /// Steps write to it.
    pub mutable: bool,
    /// A running build or a container needs it.
    pub in_use: bool,
    /// An image has it, too: what it takes isn't freed with it.
    pub shared: bool,
    pub(super) what: What,
    pub(super) chain: Vec<SnapshotId>,
}

/// What stands behind an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A record, by its row.
    Record(i64),
    /// A layer without a record.
    Layer,
    /// A cache mount, by its folder.
    Mount(PathBuf),
}

impl Entry {
    /// Returns whether its removal frees what it takes.
    pub fn is_reclaimable(&self) -> bool {
        !self.in_use && !self.shared
    }
}

/// The cache at one moment.
#[derive(Debug, Clone)]
pub struct Usage {
    /// All that is in it, in no order.
    pub entries: Vec<Entry>,
    pub(super) space: Space,
    /// The snapshots that images, containers or running processes need.
    pub(super) held: HashSet<SnapshotId>,
}

/// The rows that a listing is made from.
struct Rows {
    records: Vec<RecordRow>,
    rooms: HashMap<SnapshotId, (i64, Room)>,
    imaged: HashMap<SnapshotId, String>,
    busy: HashSet<SnapshotId>,
}

impl Store {
    /// Returns what is in the cache. What nobody has measured yet is measured now.
    pub fn usage(&self) -> Result<Usage> {
        match self.measure_snapshots() {
            // Without room to note them, the sizes at the commit have to do.
            Err(error) if error.is_disk_full() => {}
            other => other?,
        }
        let rows = self.rows()?;
        let space = Space::new(rows.rooms.iter().map(|(id, (_, room))| (*id, *room)).collect());
        let mut entries = rows.entries(&space);
        entries.extend(self.cache_mount_uses()?.into_iter().map(mount_entry));
        let held = rows.imaged.keys().chain(&rows.busy).copied().collect();
        Ok(Usage { entries, space, held })
    }

    fn rows(&self) -> Result<Rows> {
        let busy = self.pinned_snapshots()?;
        let (mut rows, leased) = self.meta().read(|tx| {
            let mut imaged = HashMap::new();
            // A layer is called by the image that begins with it.
            let mut images = tx.images()?;
            images.sort_by_key(|image| image.chain.len());
            for image in images {
                let name = tx.names(&image.id)?.into_iter().next();
                let name = name.unwrap_or_else(|| format!("the image {}", &image.id.hex()[..12]));
                for id in image.chain {
                    imaged.entry(id).or_insert_with(|| name.clone());
                }
            }
            let rows = Rows { records: tx.record_rows()?, rooms: tx.rooms()?, imaged, busy };
            Ok((rows, tx.leased_snapshots()?))
        })?;
        let mut alive: HashMap<String, bool> = HashMap::new();
        for (lease, id) in leased {
            if *alive.entry(lease).or_insert_with_key(|lease| self.is_alive(lease)) {
                rows.busy.insert(id);
            }
        }
        Ok(rows)
    }
}

impl Rows {
    /// Gives every record an entry, and every layer that no record ends with.
    fn entries(&self, space: &Space) -> Vec<Entry> {
        // A layer's bytes are those of the record that made it: the first that ends with it.
        let mut order: Vec<&RecordRow> = self.records.iter().collect();
        order.sort_by_key(|record| (record.chain.len(), record.row));
        let mut makers: HashMap<SnapshotId, Digest> = HashMap::new();
        let mut used: HashMap<SnapshotId, i64> = HashMap::new();
        for record in &order {
            if let Some(top) = record.chain.last() {
                makers.entry(*top).or_insert(record.result);
            }
            for id in &record.chain {
                let last = used.entry(*id).or_insert(record.used);
                *last = record.used.max(*last);
            }
        }
        let name_of = |id: &SnapshotId| makers.get(id).map_or_else(|| id.to_string(), short);
        let mut told = HashSet::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(order.len());
        for record in order {
            let top = record.chain.last();
            let below = record.chain.iter().rev().nth(1);
            entries.push(Entry {
                id: short(&record.result),
                kind: record.kind,
                description: record.description.clone(),
                parents: below.map(name_of).into_iter().collect(),
                created: record.created,
                used: top.map_or(record.used, |top| used[top]),
                uses: record.uses,
                bytes: top.filter(|top| told.insert(**top)).map_or(0, |top| space.own(top)),
                mutable: false,
                in_use: top.is_some_and(|top| self.busy.contains(top)),
                shared: top.is_some_and(|top| self.imaged.contains_key(top)),
                what: What::Record(record.row),
                chain: record.chain.clone(),
            });
        }
        let layers = self.rooms.iter().filter(|(id, _)| !makers.contains_key(*id));
        entries.extend(layers.map(|(id, (created, _))| {
            let image = self.imaged.get(id);
            Entry {
                id: id.to_string(),
                kind: if image.is_some() { RecordKind::Regular } else { RecordKind::Internal },
                description: match image {
                    Some(name) => format!("layer of {name}"),
                    None if used.contains_key(id) => "layer below others".to_owned(),
                    None => "layer that nothing leads to".to_owned(),
                },
                parents: Vec::new(),
                created: *created,
                used: used.get(id).copied().unwrap_or(*created),
                uses: 1,
                bytes: space.own(id),
                mutable: false,
                in_use: self.busy.contains(id),
                shared: image.is_some(),
                what: What::Layer,
                chain: vec![*id],
            }
        }));
        entries
    }
}

fn mount_entry(mount: MountUse) -> Entry {
    Entry {
        id: mount.id,
        kind: RecordKind::CacheMount,
        description: format!("cache mount {}", mount.name),
        parents: Vec::new(),
        created: mount.created,
        used: mount.used,
        uses: mount.uses,
        bytes: mount.bytes,
        mutable: true,
        in_use: mount.in_use,
        shared: false,
        what: What::Mount(mount.folder),
        chain: Vec::new(),
    }
}

/// The id of what this digest names.
pub(crate) fn short(result: &Digest) -> String {
    result.hex()[..ID_DIGITS].to_owned()
}
