//! What a check of the whole store, and of what kiln left on the machine, asks for and gives.

/// How to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SystemCheckRequest {
    /// Drop what is damaged and collect what is left over.
    pub repair: bool,
    /// Compare names and sizes, not contents.
    pub quick: bool,
}

/// Something that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Whether something is lost; else it only waits to be tidied up.
    pub damage: bool,
    /// What it is in: `blob`, `layer`, `build record`, `image`, `name`, `container`, `database` …
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// What it is.
    pub problem: String,
    /// What helps.
    pub remedy: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SystemCheckReport {
    /// What is wrong, damage first. After a repair: what is still wrong.
    pub problems: Vec<Problem>,
    /// The number of blobs that were looked at.
    pub blobs: u64,
    /// The number of layers.
    pub layers: u64,
    /// The number of build records.
    pub records: u64,
    /// The number of images.
    pub images: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What a repair took away; `None` when there was none.
    pub repaired: Option<Repairs>,
}

/// What a repair took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Repairs {
    /// Each image, by its names, else by its id.
    pub images: Vec<String>,
    /// The number of build records.
    pub records: u64,
    /// The number of layers.
    pub layers: u64,
    /// The number of blobs.
    pub blobs: u64,
    /// The bytes on the disk.
    pub bytes: u64,
}

impl SystemCheckReport {
    /// Tells whether anything is lost.
    pub fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.damage)
    }
}
