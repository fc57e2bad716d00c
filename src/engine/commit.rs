//! `kiln commit`.

use super::Engine;
use super::change;
use super::containers::failure;
use super::pull::without_digest;
use crate::api::{CommitRequest, ContainerState, Failure};
use crate::container::{NewImage, run_config};
use crate::image;
use crate::oci::{ImageConfig, Platform, Reference};

impl Engine {
    /// Makes an image of a container's files and configuration; returns its id.
    pub fn commit(&self, request: &CommitRequest, reference: Option<&Reference>) -> Result<String, Failure> {
        if let Some(reference) = reference {
            without_digest(reference, "commit to")?;
        }
        let record = self.container(&request.container)?;
        let store = self.store()?;
        let lease = store.lease();
        // The image may have been removed by force: the container still stands on its layers.
        let base = match image::find(store, &record.image_id) {
            Ok(found) => image::config(store, &found)?,
            Err(_) => of_no_image(),
        };
        let mut config = run_config(&record, base.config.clone());
        change::apply(&mut config, &request.changes)?;
        let created = match self.settings().source_date_epoch {
            Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or_else(|_| jiff::Timestamp::now()),
            None => jiff::Timestamp::now(),
        };
        let new =
            NewImage { config, author: request.author.clone(), message: request.message.clone(), created };
        let containers = self.containers();
        let pauses = request.pause && record.state.status == ContainerState::Running;
        if pauses {
            containers.pause(&record).map_err(failure)?;
        }
        let made = containers.commit(store, &lease, &record, base, new);
        if pauses {
            containers.unpause(&record).map_err(failure)?;
        }
        let made = made.map_err(failure)??;
        if let Some(reference) = reference {
            let name = reference.with_tag(reference.tag.as_deref().unwrap_or("latest")).to_string();
            store.tag(&name, &made.id).map_err(image::Error::from)?;
        }
        let name = reference.map(Reference::familiar).unwrap_or_default();
        let comment = request.message.clone().unwrap_or_default();
        let details = [("comment", comment), ("imageID", made.id.to_string()), ("imageRef", name)];
        containers.tell(&record, "commit", &details);
        self.flush_later(true);
        Ok(made.id.to_string())
    }
}

fn of_no_image() -> ImageConfig {
    let Platform { os, architecture, variant, .. } = Platform::host();
    ImageConfig { architecture, os, variant, ..ImageConfig::default() }
}
