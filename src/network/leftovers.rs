//! What killed kilns left of networks: bridges of stores that are gone, a packet filter without its bridge. Records
//! of addresses that nobody holds are none: they stay behind on busy machines, and the next round takes them over.

use std::io;
use std::path::Path;

use super::netlink::Socket;
use super::{Networks, OTHER_BRIDGE, Result, link, nft, remove_orphans};

impl Networks {
    /// Lists what nobody owns, each with what it is.
    pub fn leftovers(&self) -> Result<Vec<(&'static str, String)>> {
        let looked = |source| self.kernel("look", source);
        let mut host = Socket::route().map_err(looked)?;
        let mut found: Vec<_> =
            orphans(&mut host).into_iter().map(|(_, bridge)| ("network bridge", bridge)).collect();
        if self.has_filter_alone(&mut host).map_err(looked)? {
            found.push(("packet filter", self.table().to_owned()));
        }
        Ok(found)
    }

    /// Removes them.
    pub fn remove_leftovers(&self) -> Result<()> {
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        remove_orphans(&mut host);
        self.reap()?;
        if !self.folder.exists() {
            return Ok(());
        }
        // Whoever makes a bridge holds the lock until its filter is there.
        let _lock = self.lock()?;
        if self.has_filter_alone(&mut host).map_err(|source| self.kernel("look", source))? {
            self.remove()?;
        }
        Ok(())
    }

    /// A packet filter can't be read by everybody: who may not, has not left one either.
    fn has_filter_alone(&self, host: &mut Socket) -> io::Result<bool> {
        let has_table = Socket::netfilter()
            .and_then(|mut socket| nft::exists(&mut socket, self.table()))
            .unwrap_or(false);
        Ok(has_table && link::find(host, self.bridge())?.is_none())
    }
}

/// The bridges of stores that no longer exist.
pub(super) fn orphans(host: &mut Socket) -> Vec<(u32, String)> {
    let is_gone = |owner: &str| Path::new(owner).is_absolute() && !Path::new(owner).exists();
    let owned = link::owned(host).unwrap_or_default().into_iter();
    owned
        .filter(|(_, bridge, owner)| bridge.starts_with(OTHER_BRIDGE) && is_gone(owner))
        .map(|(index, bridge, _)| (index, bridge))
        .collect()
}
