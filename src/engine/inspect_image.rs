//! `kiln inspect` of an image.

use super::Engine;
use crate::api::Failure;
use crate::image;

impl Engine {
    /// Returns an image as docker's JSON.
    pub fn inspect_image(&self, name: &str) -> Result<serde_json::Value, Failure> {
        let store = self.store()?;
        let found = image::find(store, name)?;
        Ok(image::inspect(store, &found)?)
    }
}
