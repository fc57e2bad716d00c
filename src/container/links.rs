//! `--link`: names for containers on the default bridge, where there are no others.
//!
//! The name of a target is a line of the container's `/etc/hosts`. A target that starts again has another address, so
//! that `containers/<target>/linked/<id>` tells who has to hear of it. Programs that are started find the
//! target in variables too. On other networks a link is one more name for the resolver, and nothing else.

mod variables;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use self::variables::Target;
use super::create::set;
use super::error::{At, Error, Result};
use super::record::{Config, Endpoint, Record};
use super::{Containers, identity, names};
use crate::api::NetworkMode;

/// The folder in a target's folder.
const LINKED: &str = "linked";

/// A line of `/etc/hosts`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) address: IpAddr,
    /// With spaces between them.
    pub(super) names: String,
}

impl Containers {
    /// Checks the links of a request, and puts ids in the places of names: a container may be renamed.
    pub(super) fn resolve_links(&self, config: &mut Config) -> Result<()> {
        if config.links.is_empty() {
            return Ok(());
        }
        if config.network != NetworkMode::Bridge {
            let message =
                "conflicting options: `--link` and a `--network` without other containers".to_owned();
            return Err(Error::Advised { message, hint: "leave one of them out".to_owned() });
        }
        for (target, alias) in &mut config.links {
            if !names::is_name(alias) {
                let message = format!(
                    "invalid alias `{alias}` in `--link`: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                );
                return Err(Error::Advised { message, hint: "write it as `CONTAINER:ALIAS`".to_owned() });
            }
            *target = self.find(target)?.id;
        }
        Ok(())
    }

    /// Notes at the targets that `record` wants to hear of them.
    pub(super) fn note_links(&self, record: &Record) -> Result<()> {
        for (target, _) in &record.config.links {
            let folder = self.folder(target).join(LINKED);
            std::fs::create_dir_all(&folder).at("create", &folder)?;
            let path = folder.join(&record.id);
            File::create(&path).at("create", &path)?;
        }
        Ok(())
    }

    /// Tells those who have a link to `record` where it is now.
    pub(super) fn retell_links(&self, record: &Record) {
        let Ok(entries) = std::fs::read_dir(self.folder(&record.id).join(LINKED)) else { return };
        for entry in entries.flatten() {
            let folder = self.folder(&entry.file_name().to_string_lossy());
            let told = Record::read(&folder).and_then(|source| match source.state.status.is_alive() {
                true => identity::rewrite(&source, &folder),
                false => Ok(()),
            });
            if let Err(error) = told {
                tracing::debug!(%error, "a link keeps its old address");
            }
        }
    }

    /// Removes the link `alias` of a container.
    pub fn remove_link(&self, record: &Record, alias: &str) -> Result<()> {
        let folder = self.folder(&record.id);
        let record = {
            let _names = self.lock_names()?;
            let mut record = Record::read(&folder)?;
            let before = record.config.links.len();
            record.config.links.retain(|(_, own)| own != alias);
            if record.config.links.len() == before {
                let message = format!("container {} has no link `{alias}`", record.name);
                return Err(Error::Invalid { message });
            }
            record.write_config(&folder)?;
            record
        };
        if record.state.status.is_alive() {
            identity::rewrite(&record, &folder)?;
        }
        self.tell_update(&record)
    }
}

/// Gives the targets of a container that starts in `folder`; all of them have to run.
pub(super) fn neighbours(record: &Record, folder: &Path, endpoints: &[Endpoint]) -> Result<Vec<Neighbour>> {
    if !endpoints.iter().any(|endpoint| !endpoint.has_names()) {
        return Ok(Vec::new());
    }
    record.config.links.iter().map(|link| neighbour(link, folder)).collect()
}

/// Gives the targets that can be reached now.
pub(super) fn living_neighbours(record: &Record, folder: &Path, endpoints: &[Endpoint]) -> Vec<Neighbour> {
    if !endpoints.iter().any(|endpoint| !endpoint.has_names()) {
        return Vec::new();
    }
    record.config.links.iter().filter_map(|link| neighbour(link, folder).ok()).collect()
}

/// Gives the environment of a program that is started in a container with `endpoints`: its own, which wins, and what tells
/// of the targets that can be reached now.
pub(super) fn env(record: &Record, folder: &Path, endpoints: &[Endpoint]) -> Vec<String> {
    let mut env = Vec::new();
    if endpoints.iter().any(|endpoint| !endpoint.has_names()) {
        for link in &record.config.links {
            let Ok((target, address)) = target(link, folder) else { continue };
            let (alias, Config { exposed, env: theirs, .. }) = (&link.1, &target.config);
            let name = format!("/{}/{alias}", record.name);
            env.extend(Target { alias, name, address, exposed, env: theirs }.variables());
        }
    }
    if env.is_empty() {
        return record.config.env.clone();
    }
    let mut all = record.config.env.clone();
    let is_own =
        |line: &String| record.config.env.iter().any(|own| own.split('=').next() == line.split('=').next());
    env.iter().filter(|line| !is_own(line)).for_each(|line| set(&mut all, line));
    all
}

fn neighbour(link: &(String, String), folder: &Path) -> Result<Neighbour> {
    let (target, address) = target(link, folder)?;
    let alias = &link.1;
    let mut names = vec![alias.as_str(), target.short_id()];
    if target.name != *alias {
        names.push(&target.name);
    }
    Ok(Neighbour { address: IpAddr::V4(address), names: names.join(" ") })
}

/// Finds the other end of a link, and its address on the default bridge.
fn target((id, alias): &(String, String), folder: &Path) -> Result<(Record, Ipv4Addr)> {
    let invalid = |message: String| Error::Invalid { message };
    let target = Record::read(&folder.with_file_name(id)).map_err(|error| match error.is_absence() {
        true => invalid(format!("cannot link `{alias}`: its container is gone")),
        false => error,
    })?;
    if !target.state.status.is_alive() {
        let message = format!("cannot link to container {}: it is not running", target.name);
        return Err(Error::Advised {
            message,
            hint: format!("start it first: `kiln start {}`", target.name),
        });
    }
    let on_bridge = target.state.endpoints.iter().find(|endpoint| !endpoint.has_names());
    let address = on_bridge.and_then(|endpoint| endpoint.address).ok_or_else(|| Error::Advised {
        message: format!("cannot link to container {}: it is not on the default bridge", target.name),
        hint: format!("connect it: `kiln network connect bridge {}`", target.name),
    })?;
    Ok((target, address.addr()))
}
