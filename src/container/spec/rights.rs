//! What a container may do: capabilities, the system call filter, and the other words of `--security-opt`.

use std::path::Path;

use crate::api::{Isolation, Ulimit};
use crate::container::error::{Error, Result};
use crate::container::record::Config;
use crate::container::sharing::{shares_ipc, shares_network};
use crate::runtime::{
    Capabilities, Filter, Rights, Rlimit, SysctlOwner, compile_profile, default_document, profile_document,
    sysctl_owner,
};

/// What `--security-opt` says.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// `no-new-privileges`.
    no_new_privileges: bool,
    /// `seccomp=`, when it isn't the default.
    seccomp: Option<Seccomp>,
    /// `systempaths=unconfined`.
    pub(super) unmasked: bool,
    /// `writable-cgroups=true`.
    pub(super) writable_cgroups: bool,
    /// `apparmor=`, when it names a profile.
    apparmor: Option<String>,
}

/// Where the kernel tells of its security modules.
const SECURITY: &str = "/sys/kernel/security";

#[derive(Debug)]
enum Seccomp {
    Unconfined,
    Builtin,
    /// The JSON itself.
    Profile(String),
}

/// Returns what the container's processes may do; `all` is `exec --privileged`.
pub(in crate::container) fn rights(config: &Config, all: bool) -> Result<Rights> {
    let options = options(config)?;
    let privileged = config.privileged || all;
    let capabilities = if privileged { Capabilities::ALL } else { capabilities(&config.isolation)? };
    let filter = match &options.seccomp {
        Some(Seccomp::Unconfined) => Filter::Off,
        None if privileged => Filter::Off,
        Some(Seccomp::Builtin) | None => Filter::Default,
        Some(Seccomp::Profile(json)) => {
            let program = compile_profile(json, capabilities, &release())
                .map_err(|error| invalid(format!("invalid seccomp profile in `--security-opt`: {error}")))?;
            Filter::Program(program)
        }
    };
    let Options { no_new_privileges, apparmor, .. } = options;
    Ok(Rights { capabilities, no_new_privileges, filter, apparmor })
}

/// Returns the filter in the words of the runtime-spec, null for none.
pub(in crate::container) fn seccomp(config: &Config) -> Result<serde_json::Value> {
    let options = options(config)?;
    let capabilities = if config.privileged { Capabilities::ALL } else { capabilities(&config.isolation)? };
    match options.seccomp {
        Some(Seccomp::Unconfined) => Ok(serde_json::Value::Null),
        None if config.privileged => Ok(serde_json::Value::Null),
        Some(Seccomp::Builtin) | None => Ok(default_document(capabilities)),
        Some(Seccomp::Profile(json)) => profile_document(&json, capabilities, &release())
            .map_err(|error| invalid(format!("invalid seccomp profile in `--security-opt`: {error}"))),
    }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Docker's order: `ALL` among the added ones is all but the dropped, `ALL` among the dropped is only the added.
fn capabilities(isolation: &Isolation) -> Result<Capabilities> {
    let read = |flag: &str, names: &[String]| -> Result<(Capabilities, bool)> {
        let mut set = Capabilities::NONE;
        for name in names.iter().filter(|name| !is_all(name)) {
            let one = Capabilities::named(name)
                .ok_or_else(|| invalid(format!("invalid value `{name}` for `{flag}`: no such capability")))?;
            set = set.with(one);
        }
        Ok((set, names.iter().any(|name| is_all(name))))
    };
    let (added, adds_all) = read("--cap-add", &isolation.cap_add)?;
    let (dropped, drops_all) = read("--cap-drop", &isolation.cap_drop)?;
    Ok(match (adds_all, drops_all) {
        (true, _) => Capabilities::ALL.without(dropped),
        (false, true) => added,
        (false, false) => Capabilities::default().without(dropped).with(added),
    })
}

/// Returns the limits that `--ulimit` asks for; of several for one resource the last one.
pub(in crate::container) fn rlimits(config: &Config) -> Vec<Rlimit> {
    let value = |number: i64| u64::try_from(number).ok();
    let read = |limit: &Ulimit| Rlimit {
        name: limit.name.clone(),
        soft: value(limit.soft),
        hard: value(limit.hard),
    };
    let ulimits = &config.isolation.ulimits;
    let is_last = |at: usize| ulimits[at + 1..].iter().all(|later| later.name != ulimits[at].name);
    (0..ulimits.len()).filter(|&at| is_last(at)).map(|at| read(&ulimits[at])).collect()
}

/// Refuses names that are no limits.
pub(super) fn check_ulimits(config: &Config) -> Result<()> {
    match config.isolation.ulimits.iter().find(|limit| !Rlimit::is_name(&limit.name)) {
        Some(limit) => {
            Err(invalid(format!("invalid value `{}` for `--ulimit`: there is no such limit", limit.name)))
        }
        None => Ok(()),
    }
}

/// Refuses kernel parameters that aren't those of the container's own namespaces. Which ones it may have is docker's list.
pub(super) fn check_sysctls(config: &Config) -> Result<()> {
    for (name, _) in &config.isolation.sysctls {
        let of_another = |what: &str| {
            let text = format!("`--sysctl {name}` would change {what} that isn't the container's own");
            Err(invalid(text))
        };
        match sysctl_owner(name) {
            SysctlOwner::Network if shares_network(config) => return of_another("a network"),
            SysctlOwner::Ipc if shares_ipc(config) => return of_another("an IPC namespace"),
            SysctlOwner::Network | SysctlOwner::Ipc => {}
            SysctlOwner::Uts | SysctlOwner::Machine => {
                return Err(invalid(format!(
                    "invalid value `{name}` for `--sysctl`: a container has none of its own"
                )));
            }
        }
    }
    Ok(())
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

/// Reads `--security-opt`: `key=value`, or docker's older `key:value`.
pub(super) fn options(config: &Config) -> Result<Options> {
    let mut options = Options::default();
    for text in &config.isolation.security_opts {
        let (key, value) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        let bad = || invalid(format!("invalid value `{text}` for `--security-opt`"));
        match (key, value) {
            ("no-new-privileges", "" | "true") => options.no_new_privileges = true,
            ("no-new-privileges", "false") => options.no_new_privileges = false,
            ("seccomp", "unconfined") => options.seccomp = Some(Seccomp::Unconfined),
            ("seccomp", "builtin") => options.seccomp = Some(Seccomp::Builtin),
            ("seccomp", json) if !json.is_empty() => {
                options.seccomp = Some(Seccomp::Profile(json.to_owned()))
            }
            ("systempaths", "unconfined") => options.unmasked = true,
            ("writable-cgroups", "true") => options.writable_cgroups = true,
            ("writable-cgroups", "false") => options.writable_cgroups = false,
            // Neither has a profile to take away here.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor", profile) if !profile.is_empty() => {
                options.apparmor = Some(loaded_profile(Path::new(SECURITY), profile)?);
            }
            ("label", value) if !value.is_empty() => {
                let text = format!("`--security-opt label={value}`: SELinux labels are not supported yet");
                return Err(invalid(text));
            }
            _ => return Err(bad()),
        }
    }
    Ok(options)
}

/// Gives the AppArmor profile of this name; only one that is loaded can be applied.
fn loaded_profile(security: &Path, profile: &str) -> Result<String> {
    let refuse = |why: &str| Err(invalid(format!("`--security-opt apparmor={profile}`: {why}")));
    let folder = security.join("apparmor");
    if !folder.exists() {
        return refuse("this kernel has no AppArmor");
    }
    let Ok(profiles) = std::fs::read_to_string(folder.join("profiles")) else {
        return refuse("cannot read which profiles are loaded");
    };
    // Each line is a name and a mode: `docker-default (enforce)`.
    let mut names = profiles.lines().filter_map(|line| line.rsplit_once(" (")).map(|(name, _)| name);
    match names.any(|name| name == profile) {
        true => Ok(profile.to_owned()),
        false => refuse("this profile isn't loaded: load it with `apparmor_parser`"),
    }
}

fn invalid(message: String) -> Error {
    Error::Invalid { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(add: &[&str], drop: &[&str]) -> Option<Capabilities> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let isolation = Isolation { cap_add: words(add), cap_drop: words(drop), ..Isolation::default() };
        capabilities(&isolation).ok()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let named = |name| Capabilities::named(name).unwrap();
        let default = Capabilities::default();
        assert_eq!(bits(&[], &[]), Some(default));
        assert_eq!(
            bits(&["NET_ADMIN"], &["cap_chown"]),
            Some(default.without(named("CHOWN")).with(named("NET_ADMIN")))
        );
        assert_eq!(bits(&["chown"], &["all"]), Some(named("CHOWN")));
        assert_eq!(bits(&[], &["ALL"]), Some(Capabilities::NONE));
        assert_eq!(bits(&["ALL"], &["SYS_ADMIN"]), Some(Capabilities::ALL.without(named("SYS_ADMIN"))));
        assert_eq!(bits(&["MKNOD"], &["MKNOD"]), Some(default));
        assert_eq!(bits(&["FLY"], &[]), None);
    }

    #[test]
    fn a_profile_of_apparmor_has_to_be_loaded() {
        let security = tempfile::tempdir().unwrap();
        let read = |profile| loaded_profile(security.path(), profile).map_err(|error| error.to_string());
        assert!(read("mine").unwrap_err().contains("no AppArmor"));
        std::fs::create_dir(security.path().join("apparmor")).unwrap();
        std::fs::write(
            security.path().join("apparmor/profiles"),
            "docker-default (enforce)\n/usr/bin/x (y) (complain)\n",
        )
        .unwrap();
        assert_eq!(read("docker-default").unwrap(), "docker-default");
        assert_eq!(read("/usr/bin/x (y)").unwrap(), "/usr/bin/x (y)");
        assert!(
            read("mine").unwrap_err().contains("`--security-opt apparmor=mine`: this profile isn't loaded")
        );
    }
}
