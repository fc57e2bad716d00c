//! `kiln push`.

use super::Engine;
use super::pull::without_digest;
use crate::api::{Events, Failure, Pushed};
use crate::image::{self, Sink};
use crate::oci::Reference;

impl Engine {
    /// Pushes the local image of this name to the registry that the name says.
    pub fn push(&self, reference: &Reference, events: &Events) -> Result<Pushed, Failure> {
        without_digest(reference, "push")?;
        let store = self.store()?;
        let found = image::find(store, &reference.familiar())?;
        let lease = store.lease();
        if !lease.hold(&found.chain).map_err(image::Error::from)? {
            return Err(image::Error::NotFound { name: reference.familiar(), closest: None }.into());
        }
        let sink = Sink { step: None, events: events.clone() };
        let client = self.client().clone();
        let pushed = self.block_on(image::push(store, &client, &lease, &found, reference, &sink))??;
        Ok(Pushed { digest: pushed.digest.to_string(), size: pushed.size })
    }
}
