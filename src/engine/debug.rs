//! `kiln debug`.

use std::collections::BTreeSet;

use super::Engine;
use super::containers::{exit_code, failure, streams};
use crate::api::{Events, ExecRequest, Failure, PullPolicy, Stdio};
use crate::image;
use crate::runtime::{DEFAULT_PATH, TOOLS_PLACE};

impl Engine {
    /// Runs a program in a running container with the tools of `image` beside the container's files; gives its exit
    /// code.
    pub fn debug(
        &self,
        mut request: ExecRequest,
        (tools, pull): (&str, PullPolicy),
        stdio: Stdio,
        events: &Events,
    ) -> Result<i32, Failure> {
        let record = self.container(&request.container)?;
        let tools = self.ensure_image(tools, pull, events)?;
        let store = self.store()?;
        // The tools stay in the store as long as somebody uses them.
        let lease = store.lease();
        lease.hold(&tools.chain).map_err(image::Error::from)?;
        let tools = store.overlay(&tools.chain, None);
        request.env.insert(0, format!("PATH={}", path(&record.config.env)));
        let streams = streams(stdio);
        let attachment = self.containers().exec(&record, &request, Some(tools), &streams).map_err(failure)?;
        attachment.stream(streams).map(exit_code).map_err(failure)
    }
}

/// The container's search path, then the folders in which tools usually are, then those in the tools' own place.
fn path(env: &[String]) -> String {
    let own = env.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    let mut folders: Vec<String> = own.split(':').map(str::to_owned).collect();
    folders.extend(DEFAULT_PATH.split(':').map(str::to_owned));
    folders.extend(DEFAULT_PATH.split(':').map(|folder| format!("{TOOLS_PLACE}{folder}")));
    let mut seen = BTreeSet::new();
    folders.retain(|folder| !folder.is_empty() && seen.insert(folder.clone()));
    folders.join(":")
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn the_containers_programs_come_first_and_the_tools_own_last() {
        let path = path(&["A=b".into(), "PATH=/app:/bin".into()]);
        assert!(path.starts_with("/app:/bin:/usr/local/sbin:"), "{path}");
        assert!(path.ends_with(":/.kiln/usr/bin:/.kiln/sbin:/.kiln/bin"), "{path}");
        assert_eq!(path.matches(":/bin:").count(), 1, "{path}");
    }
}
