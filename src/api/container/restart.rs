//! What happens when a container's program ends.

use serde::{Deserialize, Serialize};

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    No,
    /// It is started again after an exit code other than 0, at most so many times; `None` is for ever.
    OnFailure(Option<u32>),
    /// It is started again, also by `system restore`.
    Always,
    /// Like `Always`, unless the user had stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// The most restarts in a row; 0 is no limit.
    pub fn limit(self) -> u32 {
        match self {
            Self::OnFailure(limit) => limit.unwrap_or(0),
            _ => 0,
        }
    }
}
