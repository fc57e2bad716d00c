//! `kiln load`.

use std::io::Read;

use super::Engine;
use crate::api::Failure;
use crate::image;
use crate::oci::Platform;

impl Engine {
    /// Loads every image of an archive; returns their names, and the ids of those without.
    pub fn load(&self, archive: &mut (dyn Read + Send)) -> Result<Vec<String>, Failure> {
        let store = self.store()?;
        let lease = store.lease();
        let loaded = image::load(store, &lease, archive, &Platform::host())?;
        self.flush_later(true);
        let mut names = Vec::new();
        for image in loaded {
            let id = image.image.id.to_string();
            let name = image.names.first().map_or_else(|| id.clone(), crate::oci::Reference::familiar);
            self.tell_of_image("load", &id, &name);
            match image.names.as_slice() {
                [] => names.push(id),
                given => names.extend(given.iter().map(crate::oci::Reference::familiar)),
            }
        }
        Ok(names)
    }
}
