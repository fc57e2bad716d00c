//! `kiln rm`.

use crate::api::{Failure, FailureKind};

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Removes a container; `force` kills a running one, `volumes` takes its anonymous volumes along.
    pub fn rm(&self, container: &str, force: bool, volumes: bool) -> Result<(), Failure> {
        let store = self.store_to_shrink()?;
        let record = self.container(container)?;
        self.containers().remove(store, &record, force, volumes).map_err(failure)
    }

    /// Removes a link, written as `CONTAINER/ALIAS`.
    pub fn rm_link(&self, link: &str) -> Result<(), Failure> {
        let (container, alias) = link.trim_start_matches('/').split_once('/').ok_or_else(|| {
            Failure::new(FailureKind::Invalid, format!("invalid link `{link}`"))
                .hint("write it as `CONTAINER/ALIAS`, such as `web/db`")
        })?;
        let record = self.container(container)?;
        self.containers().remove_link(&record, alias).map_err(failure)
    }
}
