//! `kiln history`.

use super::Engine;
use crate::api::{Failure, HistoryRow};
use crate::image;

impl Engine {
    /// Returns how an image was made, newest line first. No network.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryRow>, Failure> {
        let store = self.store()?;
        let found = image::find(store, name)?;
        let config = image::config(store, &found)?;
        let sizes = found.chain.iter().map(|id| store.snapshot_bytes(id)).collect::<Result<Vec<_>, _>>();
        let sizes = sizes.map_err(image::Error::from)?;
        Ok(image::history(&found.id, &image::familiar(&found.names), &config, &sizes))
    }
}
