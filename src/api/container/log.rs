//! Where a container's output goes, and how it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `--log-driver` and `--log-opt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `journald` or `none`.
    pub driver: String,
    /// The options as they were given.
    pub options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { driver: "json-file".to_owned(), options: BTreeMap::new() }
    }
}

/// `kiln logs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogsRequest {
    /// The container, by name, id or prefix.
    pub container: String,
    /// `-f`.
    pub follow: bool,
    /// `-t`.
    pub timestamps: bool,
    /// `--details`.
    pub details: bool,
    /// `--tail`; `None` means all.
    pub tail: Option<usize>,
    /// `--since`, unix nanoseconds.
    pub since: Option<i64>,
    /// `--until`, unix nanoseconds.
    pub until: Option<i64>,
}
