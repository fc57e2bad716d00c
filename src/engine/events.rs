//! `kiln events`, and what images tell of themselves.

use std::collections::BTreeMap;
use std::io;

use crate::api::{EngineEvent, EventsRequest, Failure, FailureKind};
use crate::events::Log;

use super::Engine;

impl Engine {
    /// Gives what happened in the store to `take`, and what happens from now on, until `take` gives `false`.
    pub fn events(
        &self,
        request: &EventsRequest,
        take: &mut dyn FnMut(EngineEvent) -> io::Result<bool>,
    ) -> Result<(), Failure> {
        match Log::new(&self.settings().root).read(request, now, take) {
            // Nobody reads any further: `kiln events | head -1`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| Failure::from_error(FailureKind::System, &error)),
        }
    }

    /// Tells that `action` happened to the image `id`, by the name `name`.
    pub(super) fn tell_of_image(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        let (kind, action, id) = ("image".to_owned(), action.to_owned(), id.to_owned());
        Log::new(&self.settings().root).tell(&[EngineEvent { time: now(), kind, action, id, attributes }]);
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
