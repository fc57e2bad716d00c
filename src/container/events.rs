//! What the store's events hear of containers.

use super::record::Record;
use super::{Containers, now};
use crate::api::EngineEvent;

impl Containers {
    /// Tells that `action` happened to a container; `details` are attributes beside its name, image and labels.
    pub fn tell(&self, record: &Record, action: &str, details: &[(&str, String)]) {
        self.events.tell(&[event(record, action, details)]);
    }
}

/// What is told when `action` happens to a container.
pub(super) fn event(record: &Record, action: &str, details: &[(&str, String)]) -> EngineEvent {
    let mut attributes = record.config.labels.clone();
    attributes.insert("image".to_owned(), record.image.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    attributes.extend(details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let (kind, action, id) = ("container".to_owned(), action.to_owned(), record.id.clone());
    EngineEvent { time: now(), kind, action, id, attributes }
}
