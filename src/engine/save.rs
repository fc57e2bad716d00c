//! `kiln save`.

use std::io::Write;

use super::Engine;
use crate::api::Failure;
use crate::image::{self, ArchiveKind, Saved};
use crate::oci::Reference;

impl Engine {
    /// Writes images as one archive that `docker load` and OCI tools read.
    ///
    /// An image named by its id is saved without a name.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<(), Failure> {
        let store = self.store()?;
        let lease = store.lease();
        let mut images: Vec<Saved> = Vec::new();
        for name in names {
            let found = image::find(store, name)?;
            let reference = Reference::parse(name).ok().filter(|reference| {
                let full = reference.with_tag(reference.tag.as_deref().unwrap_or("latest")).to_string();
                reference.digest.is_none() && found.names.contains(&full)
            });
            match images.iter_mut().find(|known| known.image.id == found.id) {
                Some(known) => known.names.extend(reference),
                None => images.push(Saved { image: found, names: reference.into_iter().collect() }),
            }
        }
        Ok(image::save(store, &lease, &images, ArchiveKind::Docker, out)?)
    }
}
