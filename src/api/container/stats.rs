//! What a container uses up, and its processes.

/// A row of `kiln stats`: totals since the container's start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Unix nanoseconds of this reading.
    pub time: i64,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory, without the page cache that can be dropped at once.
    pub memory: u64,
    /// The limit of it in bytes: its own, or what the machine has.
    pub memory_limit: u64,
    /// Bytes received and sent.
    pub network: (u64, u64),
    /// Bytes read from and written to block devices.
    pub block: (u64, u64),
    /// Tasks.
    pub pids: u64,
}

/// What `kiln top` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessTable {
    /// The headers of the columns.
    pub titles: Vec<String>,
    /// A process each.
    pub rows: Vec<Vec<String>>,
}
