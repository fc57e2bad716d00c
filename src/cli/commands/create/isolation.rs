//! Flags of `kiln create` and `run`: what a container may do and see.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::api::{CreateRequest, Ulimit};
use crate::cli::error::Error;
use crate::cli::settings::Environment;
use crate::cli::units;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--gpus",
    "--isolation",
];

/// What a container may do and see.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Isolation {
    /// Give the container a capability of Linux (NET_ADMIN, or ALL)
    #[arg(long, value_name = "NAME")]
    cap_add: Vec<String>,
    /// Take a capability away (CHOWN, or ALL)
    #[arg(long, value_name = "NAME")]
    cap_drop: Vec<String>,
    /// Top of the cgroups: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// Give the container a device of the machine (PATH[:TARGET[:rwm]], or a CDI name)
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Let it use devices that it makes nodes of itself ("c 10:* rwm")
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Domain name of the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Put the program into a further group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Put a process before the program that passes signals on and reaps
    #[arg(long)]
    init: bool,
    /// IPC: private, shareable, none, host or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// How eagerly the kernel kills it when memory is short (-1000 to 1000)
    #[arg(long, value_name = "NUMBER")]
    oom_score_adj: Option<i32>,
    /// Processes: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Give the container every privilege
    #[arg(long)]
    privileged: bool,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// Run the container by another OCI runtime: crun, runc, youki or a path
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Change the protection: no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Set a kernel parameter of the container's own namespaces (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Set a resource limit (nofile=1024:2048; -1: none)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Host name and domain name: private or host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// User ids: host, or auto for a range of its own
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
}

impl Isolation {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest, environment: &Environment) -> Result<(), Error> {
        request.privileged = self.privileged;
        request.readonly = self.read_only;
        let isolation = &mut request.isolation;
        isolation.cap_add.clone_from(&self.cap_add);
        isolation.cap_drop.clone_from(&self.cap_drop);
        isolation.security_opts =
            self.security_opt.iter().map(|text| security_opt(text)).collect::<Result<_, _>>()?;
        isolation.devices.clone_from(&self.device);
        isolation.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        isolation.domainname.clone_from(&self.domainname);
        isolation.group_add.clone_from(&self.group_add);
        isolation.oom_score_adj = self.oom_score_adj.map(oom_score).transpose()?;
        isolation.shm_bytes = self.shm_size.as_deref().map(shm_size).transpose()?.flatten();
        isolation.sysctls = self.sysctl.iter().map(|text| sysctl(text)).collect::<Result<_, _>>()?;
        isolation.ulimits = self.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?;
        isolation.init = self.init;
        isolation.runtime =
            self.runtime.as_deref().map(|name| runtime(name, environment)).transpose()?.flatten();
        // Docker's empty word is its default.
        let mode = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        isolation.cgroupns = mode(&self.cgroupns);
        isolation.ipc = mode(&self.ipc);
        isolation.pid = mode(&self.pid);
        isolation.uts = mode(&self.uts);
        isolation.userns = mode(&self.userns);
        if isolation.userns.as_deref() == Some("keep-id") {
            return Err(bad("--userns", "keep-id", "it keeps the id of a user who is not root")
                .hint("it may be host or auto"));
        }
        Ok(())
    }
}

fn bad(flag: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::usage(format!("invalid value `{value}` for `{flag}`: {why}"))
}

/// Finds the program of another runtime; `kiln` is none.
fn runtime(name: &str, environment: &Environment) -> Result<Option<String>, Error> {
    if ["", "kiln"].contains(&name) {
        return Ok(None);
    }
    let found = match name.contains('/') {
        true => vec![PathBuf::from(name)],
        false => {
            let folders = environment.get("PATH").unwrap_or_default().split(':');
            folders.map(|folder| Path::new(folder).join(name)).collect()
        }
    };
    let is_program = |path: &&PathBuf| {
        let mode = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        mode.is_some_and(|found| found.permissions().mode() & 0o111 != 0)
    };
    let unknown = || bad("--runtime", name, "there is no such program");
    let path = found.iter().find(is_program).ok_or_else(unknown)?;
    let path = std::path::absolute(path).map_err(|_| unknown())?;
    path.into_os_string().into_string().map(Some).map_err(|_| unknown())
}

fn oom_score(score: i32) -> Result<i32, Error> {
    match score {
        -1000..=1000 => Ok(score),
        _ => Err(bad("--oom-score-adj", score, "it must be from -1000 to 1000")),
    }
}

/// Reads a size; as in docker, 0 stands for the usual one.
fn shm_size(text: &str) -> Result<Option<u64>, Error> {
    let bytes = units::parse_size(text);
    let bytes = bytes.ok_or_else(|| bad("--shm-size", text, "it must be a size, such as `64m`"))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

fn sysctl(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(bad("--sysctl", text, "write it as NAME=VALUE")),
    }
}

/// Reads `NAME=SOFT[:HARD]`; one number is both.
fn ulimit(text: &str) -> Result<Ulimit, Error> {
    let bad = |why: &str| bad("--ulimit", text, why);
    let (name, values) = text.split_once('=').ok_or_else(|| bad("write it as NAME=SOFT[:HARD]"))?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| match text {
        "unlimited" => Some(-1),
        text => text.parse::<i64>().ok().filter(|number| *number >= -1),
    };
    let (soft, hard) =
        number(soft).zip(number(hard)).ok_or_else(|| bad("a limit is a whole number, or -1 for none"))?;
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(bad("the soft limit is more than the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Puts the content of a seccomp profile in the place of its file's name.
fn security_opt(text: &str) -> Result<String, Error> {
    let profile = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:"));
    match profile {
        Some(file) if !["unconfined", "builtin", ""].contains(&file) => {
            let json = std::fs::read_to_string(file).map_err(|error| {
                Error::usage(format!("cannot read the profile `{file}` of `--security-opt`: {error}"))
            })?;
            Ok(format!("seccomp={json}"))
        }
        _ => Ok(text.to_owned()),
    }
}
