//! Flags of `kiln create` and `run`: health, restarts and the stop.

use crate::api::{CreateRequest, HealthRequest, RestartPolicy};
use crate::cli::error::Error;
use crate::cli::time::parse_span;
use crate::sys::signals;

/// Flags of docker that are still to come.
pub(super) const NOT_YET: &[&str] = &[];

/// How a container goes on living, and ends.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Life {
    /// Command that tells whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks (default 30s)
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Failures in a row that make it unhealthy (default 3)
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Time between two checks in the start period (default 5s)
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Time after the start in which failures don't count (default 0s)
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Time that a check may take (default 30s)
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Run no health check, whatever the image has
    #[arg(long)]
    no_healthcheck: bool,
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
        if let Some(text) = self.stop_signal.as_ref().filter(|text| signals::parse(text).is_none()) {
            return Err(Error::usage(format!("invalid value `{text}` for `--stop-signal`: it is no signal")));
        }
        request.stop_signal.clone_from(&self.stop_signal);
        request.stop_timeout = self.stop_timeout;
        request.health = self.health()?;
        Ok(())
    }

    fn health(&self) -> Result<HealthRequest, Error> {
        let request = HealthRequest {
            none: self.no_healthcheck,
            command: self.health_cmd.clone(),
            interval: time("--health-interval", self.health_interval.as_deref())?,
            timeout: time("--health-timeout", self.health_timeout.as_deref())?,
            start_period: time("--health-start-period", self.health_start_period.as_deref())?,
            start_interval: time("--health-start-interval", self.health_start_interval.as_deref())?,
            retries: self.health_retries,
        };
        if self.no_healthcheck && request != (HealthRequest { none: true, ..HealthRequest::default() }) {
            return Err(Error::usage("conflicting options: `--no-healthcheck` and `--health-…`"));
        }
        Ok(request)
    }
}

/// Reads a time; one that isn't 0 has at least a millisecond.
fn time(flag: &str, text: Option<&str>) -> Result<Option<i64>, Error> {
    const LEAST: i64 = 1_000_000;
    let Some(text) = text else { return Ok(None) };
    let nanos = if text == "0" { Some(0) } else { parse_span(text).map(|span| span.as_nanos()) };
    match nanos.and_then(|nanos| i64::try_from(nanos).ok()).filter(|nanos| *nanos == 0 || *nanos >= LEAST) {
        Some(nanos) => Ok(Some(nanos)),
        None => Err(Error::usage(format!("invalid value `{text}` for `{flag}`"))
            .hint("it is a time of at least 1ms, such as 1m30s")),
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
