//! What goes wrong with containers.

use std::io;
use std::path::PathBuf;

use crate::runtime::StartError;

/// Why a container's verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name, id or id prefix.
    #[error("no such container: {text}")]
    NotFound {
        /// What was asked for.
        text: String,
    },
    /// Several ids begin with this.
    #[error("`{text}` is the beginning of several container ids")]
    Ambiguous {
        /// What was asked for.
        text: String,
    },
    /// A container's name has characters that no name has.
    #[error("invalid container name `{name}`: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name {
        /// What was given.
        name: String,
    },
    /// Another container has the name.
    #[error("the container name `{name}` is already in use by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The verb needs a running container.
    #[error("container {name} is not running")]
    NotRunning {
        /// The container.
        name: String,
    },
    /// The verb needs processes that go on.
    #[error("container {name} is paused")]
    Paused {
        /// The container.
        name: String,
    },
    /// The verb needs a stopped container.
    #[error("cannot {verb} container {name}: container is running")]
    Running {
        /// The verb.
        verb: &'static str,
        /// The container.
        name: String,
    },
    /// Others start or clean up the container, again and again or for too long.
    #[error("cannot {verb} container {name}: another kiln is at work on it")]
    Busy {
        /// The verb.
        verb: &'static str,
        /// The container.
        name: String,
    },
    /// The program could not be started.
    #[error("cannot start container {name}: {source}")]
    Start {
        /// The container.
        name: String,
        /// Why.
        #[source]
        source: StartError,
    },
    /// The program of an exec could not be started.
    #[error("cannot run in container {name}: {source}")]
    Exec {
        /// The container.
        name: String,
        /// Why.
        #[source]
        source: StartError,
    },
    /// The container's monitor ended before it said how the start went.
    #[error("the monitor of container {name} ended unexpectedly")]
    MonitorLost {
        /// The container.
        name: String,
    },
    /// Its monitor refused.
    #[error("cannot {verb} container {name}: {why}")]
    Refused {
        /// The verb.
        verb: &'static str,
        /// The container.
        name: String,
        /// What the monitor says.
        why: String,
    },
    /// The program did not end.
    #[error("container {name} did not stop")]
    Stuck {
        /// The container.
        name: String,
    },
    /// Neither the image nor the user says what to run.
    #[error("no command specified")]
    NoCommand,
    /// It is in the network that it is to be connected to.
    #[error("container {name} is connected to network {network} already")]
    Connected {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// It isn't in the network that it is to be taken out of.
    #[error("container {name} is not connected to network {network}")]
    NotConnected {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// A host path to be mounted isn't there, or can't be reached.
    #[error("the bind source `{path}` cannot be used: {reason}")]
    BindSource {
        /// The path.
        path: String,
        /// Why.
        reason: io::Error,
    },
    /// A value of the request can't be used.
    #[error("{message}")]
    Invalid {
        /// Which and why.
        message: String,
    },
    /// The same, with a way out.
    #[error("{message}")]
    Advised {
        /// Which and why.
        message: String,
        /// A thing to do.
        hint: String,
    },
    /// A running container could not be connected to a network, or taken out of it.
    #[error("cannot {verb} container {name}: {source}")]
    Networking {
        /// The verb.
        verb: &'static str,
        /// The container.
        name: String,
        /// Why.
        #[source]
        source: StartError,
    },
    /// A record was written by another kiln.
    #[error("the record `{}` has format {found}, this kiln reads {known}", path.display())]
    Version {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The known one.
        known: u32,
    },
    /// A record can't be read.
    #[error("the record `{}` is damaged", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Its writable layer is mounted elsewhere.
    #[error("cannot {verb} container {name}: its files are mounted at `{}`", path.display())]
    Mounted {
        /// The verb.
        verb: &'static str,
        /// The container.
        name: String,
        /// Where.
        path: PathBuf,
    },
    /// The files of a container can't be read or written.
    #[error("cannot {action} the container's files: {source}")]
    Layer {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: crate::image::layer::LayerError,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
}

impl Error {
    /// Tells whether the container is not there, or not there any more.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// The result of a container's verb.
pub type Result<T> = std::result::Result<T, Error>;

/// Says which file operation failed.
pub(super) trait At<T> {
    /// Names what was tried and on which path.
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File { action, path: path.into(), source: source.into() })
    }
}
