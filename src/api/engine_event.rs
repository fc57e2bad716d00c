//! What happened to containers, images, networks and volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A line of `kiln events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineEvent {
    /// Unix nanoseconds.
    pub time: i64,
    /// `container`, `image`, `network` or `volume`.
    pub kind: String,
    /// `start`; with its argument where it has one: `exec_start: sh`.
    pub action: String,
    /// The id of what it happened to.
    pub id: String,
    /// `name`, `image`, labels and what belongs to the action.
    pub attributes: BTreeMap<String, String>,
}

/// `kiln events`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventsRequest {
    /// Unix nanoseconds; none before. Without it only what is still to come.
    pub since: Option<i64>,
    /// Unix nanoseconds; it ends then.
    pub until: Option<i64>,
}
