//! Flags of `kiln create` and `run`: what a container may do and see.

use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--cap-add",
    "--cap-drop",
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
    "--security-opt",
    "--shm-size",
    "--sysctl",
    "--ulimit",
    "--userns",
    "--uts",
];

/// What a container may do and see.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Isolation {
    /// Give the container every privilege
    #[arg(long)]
    privileged: bool,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
}

impl Isolation {
    /// Puts it into the request.
    #[expect(clippy::unnecessary_wraps, reason = "the values of the flags to come can be wrong")]
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.privileged = self.privileged;
        request.readonly = self.read_only;
        Ok(())
    }
}
