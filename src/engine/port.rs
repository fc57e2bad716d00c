//! `kiln port`.

use crate::api::{Failure, PublishedPort};

use super::Engine;

impl Engine {
    /// Lists where the ports of a container are reached from outside; nothing publishes any so far.
    pub fn ports(&self, container: &str) -> Result<Vec<PublishedPort>, Failure> {
        self.container(container)?;
        Ok(Vec::new())
    }
}
