//! Flags of `kiln create` and `run`: what a container may do and see.

use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--cgroupns",
    "--device",
    "--device-cgroup-rule",
    "--domainname",
    "--gpus",
    "--group-add",
    "--init",
    "--ipc",
    "--isolation",
    "--oom-score-adj",
    "--pid",
    "--runtime",
    "--shm-size",
    "--sysctl",
    "--ulimit",
    "--userns",
    "--uts",
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
    /// Give the container every privilege
    #[arg(long)]
    privileged: bool,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// Change the protection: no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl Isolation {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.privileged = self.privileged;
        request.readonly = self.read_only;
        let isolation = &mut request.isolation;
        isolation.cap_add.clone_from(&self.cap_add);
        isolation.cap_drop.clone_from(&self.cap_drop);
        isolation.security_opts =
            self.security_opt.iter().map(|text| security_opt(text)).collect::<Result<_, _>>()?;
        Ok(())
    }
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
