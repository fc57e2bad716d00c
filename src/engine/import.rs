//! `kiln import`.

use std::io::Read;

use super::Engine;
use super::change;
use super::pull::without_digest;
use crate::api::Failure;
use crate::image::{self, Import};
use crate::oci::{Platform, Reference, RunConfig};

impl Engine {
    /// Makes an image of a root filesystem's tar; returns its id.
    ///
    /// `changes` are Dockerfile instructions that set how containers of it run.
    pub fn import(
        &self,
        archive: &mut (dyn Read + Send),
        reference: Option<&Reference>,
        changes: &[String],
        message: Option<&str>,
    ) -> Result<String, Failure> {
        if let Some(reference) = reference {
            without_digest(reference, "import to")?;
        }
        let mut config = RunConfig::default();
        change::apply(&mut config, changes)?;
        let store = self.store()?;
        let lease = store.lease();
        let created = match self.settings().source_date_epoch {
            Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or_else(|_| jiff::Timestamp::now()),
            None => jiff::Timestamp::now(),
        };
        let import = Import {
            config,
            message: message.unwrap_or("Imported from -").to_owned(),
            platform: Platform::host(),
            created,
        };
        let made = image::import(store, &lease, archive, import)?;
        if let Some(reference) = reference {
            let name = reference.with_tag(reference.tag.as_deref().unwrap_or("latest")).to_string();
            store.tag(&name, &made.id).map_err(image::Error::from)?;
        }
        let name = reference.map_or_else(|| made.id.to_string(), Reference::familiar);
        self.tell_of_image("import", &made.id.to_string(), &name);
        self.flush_later(true);
        Ok(made.id.to_string())
    }
}
