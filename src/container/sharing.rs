//! Namespaces that a container shares with the host or with another container.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::Containers;
use super::create::set;
use super::error::{At, Error, Result};
use super::record::{Config, Record};
use crate::api::{Isolation, NetworkMode};
use crate::runtime::{IdRange, Namespaces, Ns, Target};

/// What stands before another container's name.
const CONTAINER: &str = "container:";

impl Containers {
    /// Checks the modes of a request, and puts ids in the places of names: a container may be renamed.
    pub(super) fn resolve_modes(&self, config: &mut Config, hostname_given: bool) -> Result<()> {
        let isolation = &mut config.isolation;
        for (flag, mode, words) in modes(isolation) {
            let Some(text) = mode else { continue };
            if let (Some(name), true) = (text.strip_prefix(CONTAINER), words.contains(&CONTAINER)) {
                *text = format!("{CONTAINER}{}", self.find(name)?.id);
            } else if !words.contains(&text.as_str()) {
                let known: Vec<_> = words.iter().map(|word| word.replace(':', ":NAME")).collect();
                let message = format!("invalid value `{text}` for `{flag}`: it may be {}", known.join(", "));
                return Err(Error::Invalid { message });
            }
        }
        let conflict = |flags: &str| {
            let message = format!("conflicting options: {flags}");
            Err(Error::Advised { message, hint: "leave one of them out".to_owned() })
        };
        let shares_uts = isolation.uts.as_deref() == Some("host");
        if let Some(donor) = isolation.network.as_deref().and_then(|mode| mode.strip_prefix(CONTAINER)) {
            if hostname_given {
                return conflict("`--hostname` and `--network container:…`");
            }
            if !config.add_hosts.is_empty() {
                return conflict("`--add-host` and `--network container:…`");
            }
            if !config.dns.is_empty() || !config.dns_search.is_empty() || !config.dns_options.is_empty() {
                return conflict("`--dns` and `--network container:…`");
            }
            config.hostname = self.find(donor)?.config.hostname;
            set(&mut config.env, &format!("HOSTNAME={}", config.hostname));
        }
        if isolation.userns.as_deref() == Some("auto") && config.privileged {
            return conflict("`--privileged` and `--userns auto`");
        }
        if shares_uts && hostname_given {
            return conflict("`--hostname` and `--uts host`");
        }
        if shares_uts && isolation.domainname.is_some() {
            return conflict("`--domainname` and `--uts host`");
        }
        if shares_uts {
            config.hostname.clear();
            set(&mut config.env, "HOSTNAME");
        }
        let has_own_shm = !matches!(isolation.ipc.as_deref(), Some("host" | "none"))
            && !isolation.ipc.as_deref().is_some_and(|mode| mode.starts_with(CONTAINER));
        if isolation.shm_bytes.is_some() && !has_own_shm {
            return conflict("`--shm-size` and an `--ipc` without a /dev/shm of its own");
        }
        Ok(())
    }

    /// Returns which namespaces the container shares; the containers that it shares them with must run.
    pub(super) fn namespaces(&self, config: &Config) -> Result<Namespaces> {
        let isolation = &config.isolation;
        let donor = |mode: &Option<String>| match mode.as_deref() {
            Some("host") => Ok(Ns::Host),
            Some(mode) if mode.starts_with(CONTAINER) => {
                self.donor(&mode[CONTAINER.len()..]).map(|(_, target)| Ns::Of(target))
            }
            _ => Ok(Ns::Own),
        };
        if let Some(id) = isolation.ipc.as_deref().and_then(|mode| mode.strip_prefix(CONTAINER)) {
            let (record, _) = self.donor(id)?;
            if record.config.isolation.ipc.as_deref() != Some("shareable") {
                let message = format!(
                    "container {} doesn't share its IPC: start it with `--ipc shareable`",
                    record.name
                );
                return Err(Error::Invalid { message });
            }
        }
        Ok(Namespaces {
            pid: donor(&isolation.pid)?,
            ipc: donor(&isolation.ipc)?,
            no_shm: isolation.ipc.as_deref() == Some("none"),
            uts: donor(&isolation.uts)?,
            cgroup: donor(&isolation.cgroupns)?,
        })
    }

    /// Opens the network namespace of the container whose network is shared, if one is; it must run.
    pub(super) fn shared_network(&self, config: &Config) -> Result<Option<(OwnedFd, Target)>> {
        let mode = config.isolation.network.as_deref();
        let Some(id) = mode.and_then(|mode| mode.strip_prefix(CONTAINER)) else { return Ok(None) };
        let (record, target) = self.donor(id)?;
        let path = format!("/proc/{}/ns/net", target.pid);
        let namespace = File::open(&path).at("open", &path)?.into();
        // Asked after the opening: it was still the same process.
        target.open().map_err(|_| not_running(&record))?;
        Ok(Some((namespace, target)))
    }

    fn donor(&self, id: &str) -> Result<(Record, Target)> {
        let record = self.find(id)?;
        match record.state.process.clone() {
            Some(target) => Ok((record, target)),
            None => Err(not_running(&record)),
        }
    }
}

fn not_running(record: &Record) -> Error {
    Error::Advised {
        message: format!("cannot share a namespace of container {}: it is not running", record.name),
        hint: format!("start it first: `kiln start {}`", record.name),
    }
}

/// Ids of each container with a user namespace of its own.
const IDS: u32 = 65_536;
/// Where those ranges begin: beyond what users and their sub-ids have.
const FIRST_ID: u32 = 1 << 31;
/// How many ranges there are.
const RANGES: u32 = 32_000;

impl Containers {
    /// Finds ids that no other container of this store has. The caller has the names locked.
    pub(super) fn free_ids(&self, id: &str) -> Result<IdRange> {
        let taken = |id: String| Some(Record::read(&self.folder(&id)).ok()?.config.ids?.first);
        let taken: Vec<u32> = self.ids()?.into_iter().filter_map(taken).collect();
        // Another store's containers begin elsewhere, most likely.
        let start = u32::from_str_radix(&id[..8], 16).unwrap_or(0) % RANGES;
        let mut ranges = (0..RANGES).map(|step| FIRST_ID + (start + step) % RANGES * IDS);
        let full = || Error::Invalid { message: "no range of user ids is free".to_owned() };
        let first = ranges.find(|first| !taken.contains(first)).ok_or_else(full)?;
        Ok(IdRange { first, count: IDS })
    }
}

type Mode<'a> = (&'static str, &'a mut Option<String>, &'static [&'static str]);

/// The flags with their values and the words that they may be.
fn modes(isolation: &mut Isolation) -> [Mode<'_>; 6] {
    [
        ("--pid", &mut isolation.pid, &["private", "host", CONTAINER]),
        ("--ipc", &mut isolation.ipc, &["private", "shareable", "none", "host", CONTAINER]),
        ("--uts", &mut isolation.uts, &["private", "host"]),
        ("--cgroupns", &mut isolation.cgroupns, &["private", "host"]),
        ("--userns", &mut isolation.userns, &["host", "auto"]),
        ("--network", &mut isolation.network, &[CONTAINER]),
    ]
}

/// Tells whether the IPC namespace is the machine's or another container's.
pub(super) fn shares_ipc(config: &Config) -> bool {
    config.isolation.ipc.as_deref().is_some_and(|mode| mode == "host" || mode.starts_with(CONTAINER))
}

/// Tells whether the network is the host's or another container's.
pub(super) fn shares_network(config: &Config) -> bool {
    config.network == NetworkMode::Host || config.isolation.network.is_some()
}
