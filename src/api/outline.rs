//! What `--call=outline` and `--call=targets` tell of a Dockerfile.

use super::Place;

/// What a target takes from the command line, and the caches that it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The Dockerfile's text.
    pub text: String,
    /// The stage's name; empty when it has none.
    pub name: String,
    /// What the comment above the stage says.
    pub description: Option<String>,
    /// The ARGs, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// The secrets.
    pub secrets: Vec<AskedFor>,
    /// The ssh agents.
    pub ssh: Vec<AskedFor>,
    /// The cache mounts.
    pub caches: Vec<AskedFor>,
}

/// An ARG that the target uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// The value that it has with this command line; empty without one.
    pub value: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// What the mount of a RUN step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFor {
    /// Its id.
    pub id: String,
    /// Whether a build without it fails.
    pub required: bool,
    /// Where it is asked for first.
    pub place: Option<Place>,
}

/// The stages of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// The Dockerfile's text.
    pub text: String,
    /// The stages in the order of the file; the last one is built by default.
    pub targets: Vec<Target>,
}

/// A stage that `--target` may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, if it has one. Any stage may be named by its number, from 0.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// What it stands on, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Where it begins.
    pub place: Option<Place>,
}
