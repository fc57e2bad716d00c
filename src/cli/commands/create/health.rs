//! Flags of `kiln create` and `run`: health, restarts and the stop.

use crate::api::{CreateRequest, RestartPolicy};
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-interval",
    "--health-start-period",
    "--health-timeout",
    "--no-healthcheck",
];

/// How a container goes on living, and ends.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Life {
    /// When to start it again: no, on-failure[:n], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills (-1: for ever)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

impl Life {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.remove = self.rm;
        request.restart = self.restart.as_deref().map_or(Ok(RestartPolicy::No), policy)?;
        if self.rm && request.restart != RestartPolicy::No {
            return Err(Error::usage("conflicting options: `--restart` and `--rm`"));
        }
        request.stop_signal.clone_from(&self.stop_signal);
        request.stop_timeout = self.stop_timeout;
        Ok(())
    }
}

/// Reads `--restart`, which `update` has too.
pub(in crate::cli::commands) fn policy(text: &str) -> Result<RestartPolicy, Error> {
    let invalid = || {
        Error::usage(format!("invalid value `{text}` for `--restart`"))
            .hint("it may be no, on-failure, on-failure:N, always or unless-stopped")
    };
    match text.split_once(':').unwrap_or((text, "")) {
        ("" | "no", "") => Ok(RestartPolicy::No),
        ("always", "") => Ok(RestartPolicy::Always),
        ("unless-stopped", "") => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", "") => Ok(RestartPolicy::OnFailure(None)),
        ("on-failure", count) => match count.parse().map_err(|_| invalid())? {
            0 => Ok(RestartPolicy::OnFailure(None)),
            count => Ok(RestartPolicy::OnFailure(Some(count))),
        },
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        for (text, expected) in [
            ("no", Some(RestartPolicy::No)),
            ("always", Some(RestartPolicy::Always)),
            ("unless-stopped", Some(RestartPolicy::UnlessStopped)),
            ("on-failure", Some(RestartPolicy::OnFailure(None))),
            ("on-failure:0", Some(RestartPolicy::OnFailure(None))),
            ("on-failure:5", Some(RestartPolicy::OnFailure(Some(5)))),
            ("on-failure:-1", None),
            ("on-failure:x", None),
            ("always:3", None),
            ("sometimes", None),
        ] {
            assert_eq!(policy(text).ok(), expected, "{text}");
        }
    }
}
