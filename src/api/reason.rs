//! Why a step of a build ran and wasn't found in the cache.

use serde::{Deserialize, Serialize};

use super::{ContextSource, DockerfileSource};
use crate::oci::Platform;

/// One cause; a step may have several, the root of them first.
///
/// Names only: values of variables may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MissReason {
    /// Nothing is known of an earlier build of this step: the first build of its Dockerfile, or no build got this far.
    NeverBuilt,
    /// The last build of this Dockerfile hadn't this step.
    NewStep,
    /// The text of the instruction changed.
    Instruction {
        /// What of it, where that is a flag: `--chown`.
        flags: Vec<String>,
    },
    /// The body of the instruction's heredoc changed.
    Heredoc,
    /// ARGs that the step can see changed.
    Arg {
        /// Their names.
        names: Vec<String>,
    },
    /// Environment variables that the step can see changed.
    Env {
        /// Their names.
        names: Vec<String>,
    },
    /// What other instructions or the command line say of the step changed.
    Setting {
        /// What, as its user would write it: `USER`, `WORKDIR`, `SHELL`, `--network`.
        names: Vec<String>,
    },
    /// Files that the step reads changed.
    Files {
        /// The first ones by name.
        changed: Vec<FileChange>,
        /// How many more.
        more: u64,
    },
    /// What an address gives changed.
    Remote {
        /// What changed there: `commit`, `content`, `time`, `checksum`.
        what: String,
        /// The commit before, if that is it.
        from: Option<String>,
        /// The commit now.
        to: Option<String>,
    },
    /// The image that the step stands on, or reads, is another one.
    Base {
        /// Its name: `docker.io/library/debian:bookworm`.
        name: String,
        /// The name of the image before, if that was another one.
        was: Option<String>,
        /// The digest of the image before.
        from: Option<String>,
        /// The digest of the image now.
        to: String,
    },
    /// A step below gave another result.
    EarlierStep {
        /// Its name: `[build 2/5] RUN make`.
        name: String,
        /// Whether it ran in this build; else it was cached, and another than in the last build.
        ran: bool,
    },
    /// A step below is gone from the Dockerfile.
    StepRemoved {
        /// Its name.
        name: String,
    },
    /// The same steps as before stand below in another order, or fewer of them.
    Order,
    /// `--no-cache`.
    NoCache,
    /// `--no-cache-filter` names its stage.
    NoCacheFilter,
    /// The result is older than `--cache-ttl`.
    Expired {
        /// When it was made, unix seconds.
        created: i64,
    },
    /// The result was removed to make room, or by a prune.
    Collected {
        /// When, unix seconds, if that is known.
        at: Option<i64>,
    },
    /// The result was there when the build began, and went away.
    Lost,
    /// This kiln makes such a step in another way than the one before.
    Upgraded,
    /// The step failed in the last build.
    FailedLastTime,
}

/// A file that isn't as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path, as the instruction would name it.
    pub path: String,
    /// What changed.
    pub what: FileAspect,
}

/// What may change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAspect {
    /// It wasn't there.
    Added,
    /// It isn't there any more.
    Removed,
    /// Its bytes.
    Content,
    /// Its permissions.
    Mode,
    /// Its user or group.
    Owner,
    /// What it is: a file became a directory, say.
    Kind,
    /// Where the link leads.
    Target,
    /// Its extended attributes.
    Attributes,
}

/// `kiln why`: which build is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyRequest {
    /// Its context.
    pub context: ContextSource,
    /// Its Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Its platform.
    pub platform: Platform,
}

/// The last build of a Dockerfile that ran a step.
#[derive(Debug, Clone, PartialEq)]
pub struct LastBuild {
    /// When it ended, unix seconds.
    pub ended: u64,
    /// Its steps.
    pub steps: Vec<LastStep>,
}

/// A step of the last build.
#[derive(Debug, Clone, PartialEq)]
pub struct LastStep {
    /// Its name: `[build 2/5] RUN make`; variables aren't filled in.
    pub name: String,
    /// How it came out.
    pub end: StepEnd,
    /// Why it ran.
    pub reasons: Vec<MissReason>,
}

/// How a step came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepEnd {
    /// It wasn't reached.
    #[default]
    NotReached,
    /// Its result was there.
    Cached,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
}
