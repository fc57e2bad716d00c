//! What killed kilns left of networks: bridges of stores that are gone, a packet filter without its bridge. Records
//! of addresses that nobody holds are none: they stay behind on busy machines, and the next round takes them over.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::filter::Filter;
use super::netlink::Socket;
use super::{Networks, OTHER_BRIDGE, Result, link, nft};

/// What stands before the folder of a network on its bridge; that of a default one has its networks' folder alone.
pub(super) const MARK: &str = "kiln:";

impl Networks {
    /// Lists what nobody owns, each with what it is.
    pub fn leftovers(&self) -> Result<Vec<(&'static str, String)>> {
        let looked = |source| self.kernel("look", source);
        let mut host = Socket::route().map_err(looked)?;
        let mut found: Vec<_> =
            orphans(&mut host).into_iter().map(|orphan| ("network bridge", orphan.bridge)).collect();
        found.extend(lost_tables().into_iter().map(|table| ("packet filter of no store", table)));
        if self.has_filter_alone(&mut host).map_err(looked)? {
            found.push(("packet filter", self.table().to_owned()));
        }
        Ok(found)
    }

    /// Removes them.
    pub fn remove_leftovers(&self) -> Result<()> {
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        remove_orphans(&mut host);
        for table in lost_tables() {
            Filter::open()
                .and_then(|mut socket| nft::remove(&mut socket, &table))
                .map_err(|source| self.kernel("remove a packet filter", source))?;
        }
        self.reap()?;
        if !self.folder.exists() {
            return Ok(());
        }
        // Whoever makes a bridge holds the lock until its filter is there.
        let _lock = self.lock()?;
        self.remove_lone_filter()
    }

    /// Removes the packet filter when none of the bridges is there. The caller has the networks locked.
    pub(super) fn remove_lone_filter(&self) -> Result<()> {
        let alone = Socket::route().and_then(|mut host| self.has_filter_alone(&mut host));
        match alone.map_err(|source| self.kernel("look", source))? {
            true => self.remove(),
            false => Ok(()),
        }
    }

    /// A packet filter can't be read by everybody: who may not, has not left one either.
    fn has_filter_alone(&self, host: &mut Socket) -> io::Result<bool> {
        let has_tables =
            Filter::open().and_then(|mut socket| nft::exist(&mut socket, self.table())).unwrap_or(false);
        if !has_tables {
            return Ok(false);
        }
        let mut bridges: Vec<_> =
            self.records().unwrap_or_default().into_iter().map(|record| record.bridge).collect();
        bridges.push(self.bridge().to_owned());
        for bridge in bridges {
            if link::find(host, &bridge)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The packet filters of stores that no longer exist, of those without a bridge too.
fn lost_tables() -> BTreeSet<String> {
    let owned = Filter::open().and_then(|mut socket| nft::owned(&mut socket)).unwrap_or_default();
    let is_lost = |(table, owner): &(String, PathBuf)| {
        owner.is_absolute() && !owner.exists() && Networks::new(owner).table() == table
    };
    owned.into_iter().filter(is_lost).map(|(table, _)| table).collect()
}

/// A bridge whose network no longer exists.
struct Orphan {
    index: u32,
    bridge: String,
    /// The tables of its store, when that is gone too.
    table: Option<String>,
}

fn orphans(host: &mut Socket) -> Vec<Orphan> {
    let is_gone = |folder: &Path| folder.is_absolute() && !folder.exists();
    let read = |(index, bridge, owner): (u32, String, String)| {
        if let Some(folder) = owner.strip_prefix(MARK).map(Path::new) {
            let networks = folder.parent().filter(|networks| is_gone(networks));
            let table = networks.map(|networks| Networks::new(networks).table().to_owned());
            return is_gone(folder).then_some(Orphan { index, bridge, table });
        }
        let is_default = bridge.starts_with(OTHER_BRIDGE) && is_gone(Path::new(&owner));
        is_default.then(|| Orphan { index, table: Some(bridge.clone()), bridge })
    };
    link::owned(host).unwrap_or_default().into_iter().filter_map(read).collect()
}

/// Removes the bridges of networks that no longer exist: scratch stores would use up all subnets.
///
/// What can't be removed stays; it is in nobody's way but by its subnet.
pub(super) fn remove_orphans(host: &mut Socket) {
    for Orphan { index, bridge, table } in orphans(host) {
        if link::remove(host, index).is_ok() {
            let filter = Filter::open().and_then(|mut socket| {
                nft::forget_foreign_drops(&mut socket, &bridge)?;
                table.map_or(Ok(()), |table| nft::remove(&mut socket, &table))
            });
            tracing::debug!(bridge, ok = filter.is_ok(), "removed the bridge of a network that is gone");
        }
    }
}
