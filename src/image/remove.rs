//! Taking names and images away. The rules and words are docker's (image delete).

use std::collections::BTreeSet;

use kiln_cache::{Digest, Image, SnapshotId, Store, Sweep, Swept};

use super::error::{Error, Result};
use super::find;
use crate::api::Removed;
use crate::oci::{ChainId, DiffId, Reference, chain_id};

/// A container that needs an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The image's id.
    pub image: Digest,
    /// The container's id.
    pub container: String,
    /// Whether its program runs.
    pub running: bool,
}

impl ImageUse {
    fn short(&self) -> &str {
        self.container.get(..12).unwrap_or(&self.container)
    }
}

/// Removes what `text` names: a name, or by id the image with its names.
///
/// A name goes alone while the image has others. `force` takes an image of several repositories and one
/// that a stopped container uses; nothing takes one from a running container but its name.
pub fn remove(store: &Store, text: &str, force: bool, uses: &[ImageUse]) -> Result<Vec<Removed>> {
    let image = find::find(store, text)?;
    let mut removal = Removal { store, image: &image, uses, force, removed: Vec::new() };
    match given_name(&image, text) {
        Some(name) => removal.by_name(&name)?,
        None => removal.by_id()?,
    }
    Ok(removal.removed)
}

/// Removes images that no container uses, with all their names, and then what nothing reaches any more.
pub fn forget(store: &Store, images: &[Image], sweep: &Sweep) -> Result<(Vec<Removed>, Swept)> {
    let mut removed = Vec::new();
    let mut layers = Vec::new();
    for image in images {
        let mut removal = Removal { store, image, uses: &[], force: true, removed: Vec::new() };
        removal.untag_all()?;
        removed.append(&mut removal.removed);
        layers.push(layers_of(store, image));
        store.remove_image(&image.id)?;
        removed.push(Removed::Deleted(image.id.to_string()));
    }
    let swept = store.gc(sweep)?;
    // Images share layers: each is told once.
    let mut told = BTreeSet::new();
    for layers in layers {
        removed.extend(gone(store, &layers).into_iter().filter(|line| match line {
            Removed::Untagged(text) | Removed::Deleted(text) => told.insert(text.clone()),
        }));
    }
    Ok((removed, swept))
}

struct Removal<'a> {
    store: &'a Store,
    image: &'a Image,
    uses: &'a [ImageUse],
    force: bool,
    removed: Vec<Removed>,
}

impl Removal<'_> {
    fn by_name(&mut self, name: &str) -> Result<()> {
        if !self.force
            && self.is_single()
            && let Some(user) = self.user(|_| true)
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
                familiar(name),
                user.short(),
                self.image.id.short(),
            )));
        }
        self.untag(name)?;
        let repository = repository(name);
        let others =
            |names: &[String]| names.iter().filter(|other| *other != name).cloned().collect::<Vec<_>>();
        let tags = others(&self.image.names);
        let mut digests = others(&self.image.repo_digests);
        if !name.contains('@') && !tags.iter().any(|tag| self::repository(tag) == repository) {
            // Digests alone keep nobody's name alive.
            let (gone, kept): (Vec<_>, Vec<_>) =
                digests.into_iter().partition(|digest| self::repository(digest) == repository);
            for digest in gone {
                self.untag(&digest)?;
            }
            digests = kept;
        }
        if !tags.is_empty() || !digests.is_empty() || self.user(|user| user.running || !self.force).is_some()
        {
            return Ok(());
        }
        self.delete()
    }

    fn by_id(&mut self) -> Result<()> {
        let id = self.image.id.short();
        if let Some(user) = self.user(|user| user.running) {
            let container = user.short();
            return Err(Error::Conflict(format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {container}"
            )));
        }
        if !self.force
            && let Some(user) = self.user(|_| true)
        {
            let container = user.short();
            return Err(Error::Conflict(format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {container}"
            )));
        }
        if !self.force && !self.is_single() {
            return Err(Error::Conflict(format!(
                "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        self.untag_all()?;
        self.delete()
    }

    fn untag_all(&mut self) -> Result<()> {
        for name in self.image.names.iter().chain(&self.image.repo_digests) {
            self.untag(name)?;
        }
        Ok(())
    }

    fn untag(&mut self, name: &str) -> Result<()> {
        let was =
            if name.contains('@') { self.store.drop_repo_digest(name)? } else { self.store.untag(name)? };
        if was {
            self.removed.push(Removed::Untagged(familiar(name)));
        }
        Ok(())
    }

    /// Removes the image and tells which of its layers nothing else kept.
    fn delete(&mut self) -> Result<()> {
        let layers = layers_of(self.store, self.image);
        self.store.remove_image(&self.image.id)?;
        self.removed.push(Removed::Deleted(self.image.id.to_string()));
        self.store.gc(&Sweep::default())?;
        self.removed.extend(gone(self.store, &layers));
        Ok(())
    }

    fn user(&self, which: impl Fn(&ImageUse) -> bool) -> Option<&ImageUse> {
        self.uses.iter().find(|user| user.image == self.image.id && which(user))
    }

    /// At most one tag, and all names in one repository.
    fn is_single(&self) -> bool {
        let names = self.image.names.iter().chain(&self.image.repo_digests);
        let repositories: BTreeSet<&str> = names.map(|name| repository(name)).collect();
        self.image.names.len() <= 1 && repositories.len() <= 1
    }
}

/// Returns an image's snapshots with the names of their layers, top first; none when its config is gone.
fn layers_of(store: &Store, image: &Image) -> Vec<(SnapshotId, ChainId)> {
    let config = find::config(store, image).unwrap_or_default();
    let diff_ids: Vec<DiffId> = config.rootfs.diff_ids.iter().copied().map(DiffId).collect();
    let chains = (1..=diff_ids.len()).filter_map(|count| chain_id(&diff_ids[..count]));
    let mut layers: Vec<_> = image.chain.iter().copied().zip(chains).collect();
    layers.reverse();
    layers
}

/// Returns the lines of those layers that the store no longer has.
fn gone(store: &Store, layers: &[(SnapshotId, ChainId)]) -> Vec<Removed> {
    let is_gone = |id| matches!(store.snapshot_bytes(id), Err(kiln_cache::Error::NoSnapshot { .. }));
    layers
        .iter()
        .filter(|(id, _)| is_gone(id))
        .map(|(_, chain)| Removed::Deleted(chain.to_string()))
        .collect()
}

/// Returns the stored name that `text` is; `None` when it is an id.
fn given_name(image: &Image, text: &str) -> Option<String> {
    let reference = Reference::parse(text).ok()?;
    let name = match reference.digest {
        Some(digest) => reference.with_digest(digest).to_string(),
        None => reference.with_tag(reference.tag.as_deref().unwrap_or("latest")).to_string(),
    };
    image.names.iter().chain(&image.repo_digests).any(|known| *known == name).then_some(name)
}

/// `docker.io/library/x` of `docker.io/library/x:tag` or `…@digest`.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}
