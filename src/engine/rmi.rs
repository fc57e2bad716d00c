//! `kiln rmi`.

use super::Engine;
use crate::api::{Failure, Removed};
use crate::image::{self, ImageUse};

impl Engine {
    /// Removes a name, or an image by its id; tells what went, line by line.
    pub fn rmi(&self, name: &str, force: bool) -> Result<Vec<Removed>, Failure> {
        let store = self.store_to_shrink()?;
        self.containers().mend_pins(store).map_err(super::containers::failure)?;
        let removed = image::remove(store, name, force, &self.image_uses()?)?;
        for line in &removed {
            match line {
                Removed::Untagged(name) => self.tell_of_image("untag", name, name),
                Removed::Deleted(id) => self.tell_of_image("delete", id, id),
            }
        }
        Ok(removed)
    }

    /// Returns which containers need which images.
    pub(super) fn image_uses(&self) -> Result<Vec<ImageUse>, Failure> {
        let containers = self.ps(true)?.into_iter();
        Ok(containers
            .filter_map(|container| {
                let image = container.image_id.parse().ok()?;
                let running = container.state.is_alive();
                Some(ImageUse { image, container: container.id, running })
            })
            .collect())
    }
}
