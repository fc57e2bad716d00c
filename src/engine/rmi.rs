//! `kiln rmi`.

use super::Engine;
use crate::api::{Failure, Removed};
use crate::image::{self, ImageUse};

impl Engine {
    /// Removes a name, or an image by its id; tells what went, line by line.
    pub fn rmi(&self, name: &str, force: bool) -> Result<Vec<Removed>, Failure> {
        Ok(image::remove(self.store()?, name, force, &self.image_uses()?)?)
    }

    /// Returns which containers need which images.
    pub(super) fn image_uses(&self) -> Result<Vec<ImageUse>, Failure> {
        Ok(Vec::new())
    }
}
