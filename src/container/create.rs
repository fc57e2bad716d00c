//! Making a container: what the request leaves open is filled in from the image.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kiln_cache::{SnapshotId, Store};

use super::error::{At, Error, Result};
use super::mounting::MountedImage;
use super::record::{Config, Record, State, VERSION};
use super::{Containers, health, log, names, now, spec, try_lock};
use crate::api::{CreateRequest, NetworkMode};
use crate::oci::RunConfig;
use crate::runtime;
use crate::sys::signals;

/// Without an image's or the user's wish, `stop` sends this.
const STOP_SIGNAL: i32 = libc::SIGTERM;
/// Attempts to find a free made-up name.
const NAME_ATTEMPTS: u32 = 100;

/// What is needed of an image to make a container of it.
#[derive(Debug)]
pub struct Image<'a> {
    /// `sha256:…`.
    pub id: String,
    /// Its snapshots, base first.
    pub chain: &'a [SnapshotId],
    /// Its defaults.
    pub config: &'a RunConfig,
    /// The images that the request wants mounted.
    pub mounted: &'a [MountedImage],
}

/// What a container is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be there.
    Create,
    /// To be run at once, with the caller attached.
    Run,
    /// To be run at once in the background.
    RunDetached,
}

impl Containers {
    /// Makes a container of `image`; it is there, named and pinned, when this returns.
    ///
    /// With it comes its lock: until that is closed it is being worked on.
    pub fn create(
        &self,
        store: &Store,
        image: &Image<'_>,
        request: &CreateRequest,
        purpose: Purpose,
    ) -> Result<(Record, OwnedFd)> {
        let name = request.name.as_deref().map(names::bare);
        if let Some(name) = name.filter(|name| !names::is_name(name)) {
            return Err(Error::Name { name: name.to_owned() });
        }
        let id = self.next_id().at("read", "/dev/urandom")?;
        log::check(&request.log).map_err(|message| Error::Invalid { message })?;
        let mut config = config(&id, image.config, request)?;
        self.resolve_modes(&mut config, request.hostname.is_some())?;
        self.resolve_networks(&mut config)?;
        self.resolve_links(&mut config)?;
        spec::check(&config)?;
        std::fs::create_dir_all(self.folder.join("names")).at("create", &self.folder)?;
        let mut mounted = self.mounts(store, image, request)?;
        config.mounts = std::mem::take(&mut mounted.points);
        config.isolation.tmpfs = std::mem::take(&mut mounted.tmpfs);
        config.transient = request.remove && purpose != Purpose::Create;
        config.stdin_once = request.interactive && purpose != Purpose::RunDetached;
        let mut record = Record {
            version: VERSION,
            id,
            name: String::new(),
            image: request.image.clone(),
            image_id: image.id.clone(),
            chain: image.chain.to_vec(),
            created: now(),
            config,
            state: State::default(),
        };
        match self.add(store, &mut record, name) {
            Ok(lock) => Ok((record, lock)),
            Err(error) => {
                let _ = store.unpin(&record.owner());
                drop(mounted);
                self.remove_volumes(&record, true);
                Err(error)
            }
        }
    }

    /// Makes the folder and takes the name; nothing is left when that fails.
    fn add(&self, store: &Store, record: &mut Record, name: Option<&str>) -> Result<OwnedFd> {
        // Under this lock a pin without a container is one that a killed kiln left.
        let _names = self.lock_names()?;
        // The pin comes first: a container is never there without what it stands on.
        let mounted = record.config.mounts.iter().filter_map(|mount| mount.image.as_ref());
        let own = (&record.image, &record.chain);
        for (image, chain) in std::iter::once(own).chain(mounted.map(|image| (&image.name, &image.chain))) {
            if !store.pin(&record.owner(), chain)? {
                let message = format!("the layers of image `{image}` are gone from the store");
                return Err(Error::Invalid { message });
            }
        }
        let top = store.overlay(&record.chain, None).lowers.into_iter().next();
        let name = match name {
            Some(name) => self.free_name(name)?.to_owned(),
            None => self.made_up_name()?,
        };
        record.name = name;
        if record.config.isolation.userns.as_deref() == Some("auto") {
            record.config.ids = Some(self.free_ids(&record.id)?);
        }
        let (folder, link) = (self.folder(&record.id), self.name_path(&record.name));
        let make = || {
            for part in ["", "upper", "work"] {
                let path = folder.join(part);
                std::fs::create_dir(&path).at("create", &path)?;
            }
            like(&folder.join("upper"), top.as_deref())?;
            // Whoever finds the record finds the lock taken.
            let busy = || Error::Running { verb: "create", name: record.name.clone() };
            let lock = try_lock(&folder)?.ok_or_else(busy)?;
            self.note_links(record)?;
            // A name without a record is free; a record without its name would be in the way of everybody.
            std::os::unix::fs::symlink(&record.id, &link).at("create", &link)?;
            record.write_config(&folder)?;
            Ok(lock)
        };
        make().inspect_err(|_| {
            let _ = std::fs::remove_file(&link);
            let _ = std::fs::remove_dir_all(&folder);
        })
    }

    /// Checks that nobody has `name`; a name whose container is gone was left by a killed kiln. The caller has
    /// the names locked.
    pub(super) fn free_name<'a>(&self, name: &'a str) -> Result<&'a str> {
        let Some(id) = self.id_of_name(name) else { return Ok(name) };
        let folder = self.folder(&id);
        // A rename that was cut short left a name that isn't the record's.
        if Record::exists(&folder) && Record::read(&folder).map_or(true, |record| record.name == name) {
            return Err(Error::NameTaken { name: name.to_owned(), id });
        }
        let path = self.name_path(name);
        std::fs::remove_file(&path).at("remove", &path)?;
        Ok(name)
    }

    fn made_up_name(&self) -> Result<String> {
        for attempt in 0..NAME_ATTEMPTS {
            let name = names::random(attempt).at("read", "/dev/urandom")?;
            if self.free_name(&name).is_ok() {
                return Ok(name);
            }
        }
        Err(Error::Invalid { message: "no made-up name is free: give one with --name".to_owned() })
    }
}

/// Gives the writable layer's top folder, which is the container's `/`, the owner and mode of the image's.
fn like(upper: &Path, top: Option<&Path>) -> Result<()> {
    let Some(top) = top else { return Ok(()) };
    let wanted = std::fs::metadata(top).at("look at", top)?;
    std::os::unix::fs::chown(upper, Some(wanted.uid()), Some(wanted.gid()))
        .at("change the owner of", upper)?;
    std::fs::set_permissions(upper, wanted.permissions()).at("change the mode of", upper)
}

fn config(id: &str, image: &RunConfig, request: &CreateRequest) -> Result<Config> {
    let (entrypoint, args) = command(image, request)?;
    let hostname = match (&request.hostname, request.network) {
        (Some(name), _) => name.clone(),
        (None, NetworkMode::Host) => String::new(),
        (None, _) => id[..12].to_owned(),
    };
    let cwd = request.workdir.clone().unwrap_or_else(|| image.working_dir.clone());
    if !cwd.is_empty() && !cwd.starts_with('/') {
        let message = format!("the working directory `{cwd}` is invalid, it needs to be an absolute path");
        return Err(Error::Invalid { message });
    }
    let stop_signal = match request.stop_signal.as_ref().or(image.stop_signal.as_ref()) {
        None => STOP_SIGNAL,
        Some(text) => signals::parse(text)
            .ok_or_else(|| Error::Invalid { message: format!("invalid signal: {text}") })?,
    };
    let mut labels: BTreeMap<_, _> = image.labels.clone();
    labels.extend(request.labels.iter().cloned());
    Ok(Config {
        entrypoint,
        args,
        env: env(image, request, &hostname),
        cwd,
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        hostname,
        labels,
        tty: request.tty,
        interactive: request.interactive,
        remove: request.remove,
        privileged: request.privileged,
        readonly: request.readonly,
        stop_signal,
        stop_timeout: request.stop_timeout,
        resources: request.resources.clone(),
        isolation: request.isolation.clone(),
        ids: None,
        health: health::check(image.healthcheck.as_ref(), &request.health),
        shell: image.shell.clone().unwrap_or_default(),
        restart: request.restart,
        log: request.log.clone(),
        attach: request.attach.clone(),
        annotations: request.annotations.iter().cloned().collect(),
        exposed: exposed(image, request),
        dns: request.dns.clone(),
        dns_options: request.dns_options.clone(),
        dns_search: request.dns_search.clone(),
        network: request.network,
        networks: request.networks.clone(),
        unconnected: false,
        links: request.links.clone(),
        ports: request.ports.clone(),
        publish_all: request.publish_all,
        publish_address: request.publish_address,
        add_hosts: request.add_hosts.clone(),
        mounts: Vec::new(),
        long_mounts: request.mounts.iter().filter(|mount| mount.is_long).cloned().collect(),
        volumes_from: request.volumes_from.iter().map(from_text).collect(),
        transient: false,
        stdin_once: false,
    })
}

fn from_text((container, readonly): &(String, Option<bool>)) -> String {
    let mode = match readonly {
        Some(true) => ":ro",
        Some(false) => ":rw",
        None => "",
    };
    format!("{container}{mode}")
}

/// Gives the ports of the image and of the request, the published ones too, each once, in order.
fn exposed(image: &RunConfig, request: &CreateRequest) -> Vec<String> {
    let mut ports: Vec<_> = image.exposed_ports.keys().chain(&request.expose).cloned().collect();
    ports.extend(request.ports.iter().map(|port| format!("{}/{}", port.container, port.protocol.name())));
    ports.sort();
    ports.dedup();
    ports
}

/// Gives the entrypoint and the whole command: a new entrypoint drops the image's command with its entrypoint.
fn command(image: &RunConfig, request: &CreateRequest) -> Result<(Vec<String>, Vec<String>)> {
    let image_cmd = image.cmd.clone().unwrap_or_default();
    let (entrypoint, default) = match request.entrypoint.as_deref() {
        None => (image.entrypoint.clone().unwrap_or_default(), image_cmd),
        Some("") => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.to_owned()], Vec::new()),
    };
    let command = if request.command.is_empty() { default } else { request.command.clone() };
    let args = [entrypoint.clone(), command].concat();
    if args.is_empty() {
        return Err(Error::NoCommand);
    }
    Ok((entrypoint, args))
}

/// Gives the environment in docker's order: `PATH`, `HOSTNAME`, `TERM`, the image's, the user's.
fn env(image: &RunConfig, request: &CreateRequest, hostname: &str) -> Vec<String> {
    let mut env = Vec::new();
    if !hostname.is_empty() {
        env.push(format!("HOSTNAME={hostname}"));
    }
    if request.tty {
        env.push("TERM=xterm".to_owned());
    }
    for line in image.env.iter().chain(&request.env) {
        set(&mut env, line);
    }
    if !env.iter().any(|line| line.starts_with("PATH=")) {
        env.insert(0, format!("PATH={}", runtime::DEFAULT_PATH));
    }
    env
}

/// Sets `NAME=value`, or removes `NAME`, keeping the place of the first one.
pub(super) fn set(env: &mut Vec<String>, line: &str) {
    let name = line.split('=').next().unwrap_or_default();
    let place = env.iter().position(|old| old.split('=').next() == Some(name));
    match (place, line.contains('=')) {
        (Some(place), true) => line.clone_into(&mut env[place]),
        (Some(place), false) => drop(env.remove(place)),
        (None, true) => env.push(line.to_owned()),
        (None, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RunConfig {
        RunConfig {
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["default".into()]),
            env: vec!["PATH=/bin".into(), "A=image".into(), "B=1".into()],
            ..RunConfig::default()
        }
    }

    fn args(entrypoint: Option<&str>, command: &[&str]) -> Option<String> {
        let request = CreateRequest {
            entrypoint: entrypoint.map(str::to_owned),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..CreateRequest::default()
        };
        Some(command_of(&request)?.join(" "))
    }

    fn command_of(request: &CreateRequest) -> Option<Vec<String>> {
        super::command(&image(), request).ok().map(|(_, args)| args)
    }

    #[test]
    fn entrypoint_and_command_are_joined_as_docker_joins_them() {
        assert_eq!(args(None, &[]).as_deref(), Some("/entry default"));
        assert_eq!(args(None, &["x", "y"]).as_deref(), Some("/entry x y"));
        assert_eq!(args(Some("/other"), &[]).as_deref(), Some("/other"));
        assert_eq!(args(Some("/other"), &["x"]).as_deref(), Some("/other x"));
        assert_eq!(args(Some(""), &["x"]).as_deref(), Some("x"));
        assert_eq!(args(Some(""), &[]), None);
    }

    #[test]
    fn the_users_environment_wins_and_a_bare_name_removes() {
        let request = CreateRequest {
            env: vec!["A=user".into(), "B".into(), "C=".into(), "NEVER".into()],
            tty: true,
            ..CreateRequest::default()
        };
        let expected = ["HOSTNAME=box", "TERM=xterm", "PATH=/bin", "A=user", "C="];
        assert_eq!(env(&image(), &request, "box"), expected);
    }
}
