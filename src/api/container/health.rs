//! How a container's health is looked at, and how it is.

use serde::{Deserialize, Serialize};

/// The `--health-…` flags; what is missing comes from the image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthRequest {
    /// `--no-healthcheck`.
    pub none: bool,
    /// `--health-cmd`, for the shell.
    pub command: Option<String>,
    /// `--health-interval`, nanoseconds.
    pub interval: Option<i64>,
    /// `--health-timeout`, nanoseconds.
    pub timeout: Option<i64>,
    /// `--health-start-period`, nanoseconds.
    pub start_period: Option<i64>,
    /// `--health-start-interval`, nanoseconds.
    pub start_interval: Option<i64>,
    /// `--health-retries`.
    pub retries: Option<u32>,
}

/// A health check with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// Nanoseconds between probes.
    pub interval: i64,
    /// Nanoseconds that a probe may take.
    pub timeout: i64,
    /// Nanoseconds after the start in which failures don't count.
    pub start_period: i64,
    /// Nanoseconds between probes in that time.
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// What the probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No probe has succeeded yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many probes in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The health of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the probes say.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last probes, the oldest first.
    pub log: Vec<HealthProbe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// Unix nanoseconds.
    pub start: i64,
    /// Unix nanoseconds.
    pub end: i64,
    /// -1 when it took too long or could not be started.
    pub exit_code: i32,
    /// The first 4096 bytes that it wrote.
    pub output: String,
}
