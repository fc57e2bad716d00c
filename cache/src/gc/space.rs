//! What snapshots take on the disk, where some share their bytes.
//!
//! A snapshot may have files that are links to, or clones of, those of an older one, its source: these bytes are
//! counted with the source. When that one goes, they are left to those who share them. How much of their shares
//! is the same isn't known; the least that it can be is taken, so that the sum is never too small.

use std::collections::HashMap;

use crate::SnapshotId;

/// What one snapshot takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// The bytes of its files on the disk, and of the blobs that are kept for it.
    pub(crate) disk: u64,
    /// Those of them that are counted with its source.
    pub(crate) shared: u64,
    /// Its source.
    pub(crate) source: Option<SnapshotId>,
}

impl Room {
    /// What is counted with the snapshot itself.
    pub(crate) fn own(&self) -> u64 {
        self.disk.saturating_sub(self.shared)
    }
}

/// The rooms of all snapshots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    rooms: HashMap<SnapshotId, Room>,
    sharers: HashMap<SnapshotId, Vec<SnapshotId>>,
}

impl Space {
    /// Counts these; one whose source isn't there has all its bytes for itself.
    pub(crate) fn new(rooms: HashMap<SnapshotId, Room>) -> Self {
        let mut space = Self { sharers: HashMap::new(), rooms };
        let ids: Vec<SnapshotId> = space.rooms.keys().copied().collect();
        for id in ids {
            let source = space.rooms[&id].source.filter(|source| space.rooms.contains_key(source));
            match source {
                Some(source) => space.sharers.entry(source).or_default().push(id),
                None => space.set(id, 0, None),
            }
        }
        space.sharers.values_mut().for_each(|sharers| sharers.sort());
        space
    }

    /// What is counted with `id`.
    pub(crate) fn own(&self, id: &SnapshotId) -> u64 {
        self.rooms.get(id).map_or(0, Room::own)
    }

    /// Takes `id` out; the bytes that this frees, and what changed for those who shared its bytes.
    pub(crate) fn remove(&mut self, id: &SnapshotId) -> (u64, Vec<(SnapshotId, Room)>) {
        let Some(gone) = self.rooms.remove(id) else { return (0, Vec::new()) };
        let mut freed = gone.own();
        let sharers = self.sharers.remove(id).unwrap_or_default();
        let before: u64 = sharers.iter().map(|sharer| self.own(sharer)).sum();
        match gone.source {
            Some(source) => {
                // Of what they share with `id`, at least this much is the source's.
                self.hand_over(&sharers, source, gone.own());
                if let Some(others) = self.sharers.get_mut(&source) {
                    others.retain(|other| other != id);
                }
            }
            None => {
                // The one that shares most has it all from now on.
                let heir = sharers.iter().copied().max_by_key(|sharer| (self.rooms[sharer].shared, *sharer));
                if let Some(heir) = heir {
                    let missing = gone.disk.saturating_sub(self.rooms[&heir].shared);
                    self.set(heir, 0, None);
                    let others: Vec<_> = sharers.iter().copied().filter(|other| *other != heir).collect();
                    self.hand_over(&others, heir, missing);
                }
            }
        }
        let after: u64 = sharers.iter().map(|sharer| self.own(sharer)).sum();
        freed = freed.saturating_sub(after.saturating_sub(before));
        (freed, sharers.into_iter().map(|sharer| (sharer, self.rooms[&sharer])).collect())
    }

    /// Gives `sharers` a new source, which lacks up to `missing` bytes of what they shared before.
    fn hand_over(&mut self, sharers: &[SnapshotId], source: SnapshotId, missing: u64) {
        for sharer in sharers {
            let shared = self.rooms[sharer].shared.saturating_sub(missing);
            self.set(*sharer, shared, Some(source));
            self.sharers.entry(source).or_default().push(*sharer);
        }
    }

    fn set(&mut self, id: SnapshotId, shared: u64, source: Option<SnapshotId>) {
        if let Some(room) = self.rooms.get_mut(&id) {
            (room.shared, room.source) = (shared, source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> SnapshotId {
        format!("{number:016x}").parse().unwrap()
    }

    /// Snapshots of 200 bytes each of which shares all but one with the one before.
    fn line(count: u64) -> Space {
        let room = |number| Room {
            disk: 200,
            shared: if number == 0 { 0 } else { 199 },
            source: (number > 0).then(|| id(number - 1)),
        };
        Space::new((0..count).map(|number| (id(number), room(number))).collect())
    }

    fn total(space: &Space, count: u64) -> u64 {
        (0..count).map(|number| space.own(&id(number))).sum()
    }

    #[test]
    fn shared_bytes_are_counted_once_and_freed_with_the_last_who_has_them() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let mut space = line(4);
            assert_eq!(total(&space, 4), 203);
            let mut left = 203;
            for number in order {
                let (freed, _) = space.remove(&id(number));
                left -= freed;
                assert_eq!(left, total(&space, 4), "{order:?} {number}");
            }
            assert_eq!(left, 0, "{order:?}");
        }
    }

    #[test]
    fn the_sum_is_never_less_than_what_is_there() {
        let mut space = line(3);
        // What the last one shares with the middle one may be the one byte that the first lacks.
        assert_eq!(space.remove(&id(1)).0, 0);
        assert_eq!(total(&space, 3), 202);
        let mut space = line(3);
        let (freed, changed) = space.remove(&id(0));
        assert_eq!((freed, changed.len()), (1, 1));
        assert_eq!(total(&space, 3), 201);
    }

    #[test]
    fn a_source_that_is_gone_shares_nothing() {
        let room = Room { disk: 10, shared: 9, source: Some(id(7)) };
        let space = Space::new([(id(1), room)].into());
        assert_eq!(space.own(&id(1)), 10);
    }
}
