//! What the verbs of containers have in common.

use crate::api::{Failure, FailureKind, Stdio};
use crate::container::{Containers, Ended, Error, Record, Streams};
use crate::runtime::StartErrorKind;

use super::Engine;

impl Engine {
    /// Returns the containers of this engine's store.
    pub(super) fn containers(&self) -> Containers {
        Containers::new(&self.settings().root)
            .publishing(self.settings().publish)
            .with_ahead(self.ahead.clone())
    }

    /// Finds a container by name, id or unique beginning of its id.
    pub(super) fn container(&self, text: &str) -> Result<Record, Failure> {
        let record = self.containers().find(text).map_err(failure)?;
        self.revived(record)
    }

    /// Lists all containers, the newest first.
    pub(super) fn all_containers(&self) -> Result<Vec<Record>, Failure> {
        let (records, mut damaged) = self.surveyed()?;
        damaged.pop().map_or(Ok(records), Err)
    }

    /// The same, with what is wrong with those that can't be read.
    pub(super) fn surveyed(&self) -> Result<(Vec<Record>, Vec<Failure>), Failure> {
        let (found, damaged) = self.containers().survey().map_err(failure)?;
        let mut damaged: Vec<Failure> = damaged.into_iter().map(failure).collect();
        let mut records = Vec::new();
        for record in found {
            match self.revived(record) {
                Ok(record) => records.push(record),
                // Somebody else removed it meanwhile.
                Err(failure) if failure.kind == FailureKind::NotFound => {}
                Err(failure) => damaged.push(failure),
            }
        }
        Ok((records, damaged))
    }

    /// A container whose monitor was lost runs again if its policy wants that, whoever looks at it first; one that was
    /// being connected to a network by a killed kiln is.
    fn revived(&self, record: Record) -> Result<Record, Failure> {
        let containers = self.containers();
        if record.is_misplaced() {
            // Nobody tells its monitor any more.
            if let Err(error) = containers.place(&record) {
                tracing::debug!(%error, "its networks stay as they are");
            }
            return containers.find(&record.id).map_err(failure);
        }
        if !record.is_due() {
            return Ok(record);
        }
        // Who may not open the store may still look.
        let Ok(store) = self.store() else { return Ok(record) };
        if let Err(error) = containers.revive(store, &record) {
            tracing::debug!(%error, "it could not be started again");
        }
        containers.find(&record.id).map_err(failure)
    }
}

/// Puts a container's error into the user's words.
pub(super) fn failure(error: Error) -> Failure {
    let kind = match &error {
        Error::NotFound { .. } => FailureKind::NotFound,
        Error::Ambiguous { .. }
        | Error::Name { .. }
        | Error::Invalid { .. }
        | Error::Advised { .. }
        | Error::BindSource { .. }
        | Error::Connected { .. }
        | Error::NotConnected { .. }
        | Error::NoCommand => FailureKind::Invalid,
        Error::Volume(error) => super::volume::kind(error),
        Error::Network(error) => of_network(error),
        Error::Mounted { .. }
        | Error::NameTaken { .. }
        | Error::NotRunning { .. }
        | Error::Paused { .. }
        | Error::Busy { .. }
        | Error::Running { .. } => FailureKind::Conflict,
        Error::Start { source, .. } | Error::Exec { source, .. } => match source.kind {
            StartErrorKind::NotFound => FailureKind::CommandNotFound,
            StartErrorKind::NotExecutable => FailureKind::CommandNotExecutable,
            StartErrorKind::Other => FailureKind::System,
        },
        _ => FailureKind::System,
    };
    let hint = hint(&error);
    // A start's reason is in its message already.
    let mut failure = match &error {
        Error::Start { source, .. } | Error::Exec { source, .. } | Error::Networking { source, .. } => {
            let mut failure = Failure::new(kind, error.to_string());
            failure.hints.extend(source.hint.clone());
            failure
        }
        _ => Failure::from_error(kind, &error),
    };
    failure.hints.extend(hint);
    failure
}

fn of_network(error: &crate::network::Error) -> FailureKind {
    use crate::network::Error;
    match error {
        Error::NotFound { .. } => FailureKind::NotFound,
        Error::Ambiguous { .. }
        | Error::Invalid { .. }
        | Error::Outside { .. }
        | Error::Overlaps { .. }
        | Error::Route { .. } => FailureKind::Invalid,
        Error::AddressTaken { .. } | Error::NameTaken { .. } | Error::InUse { .. } => FailureKind::Conflict,
        Error::File { .. } | Error::Kernel { .. } | Error::NoSubnet { .. } | Error::NoAddress { .. } => {
            FailureKind::System
        }
    }
}

fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Network(error) => network_hint(error),
        Error::Volume(error) => super::volume::hint(error),
        Error::Advised { hint, .. } => Some(hint.clone()),
        Error::Connected { name, network } => {
            Some(format!("take it out first: `kiln network disconnect {network} {name}`"))
        }
        Error::NotConnected { name, .. } => Some(format!("`kiln inspect {name}` shows its networks")),
        Error::BindSource { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => {
            Some("make it first, or add `bind-create-src`".to_owned())
        }
        Error::NotFound { .. } => Some("see all containers with `kiln ps -a`".to_owned()),
        Error::NameTaken { name, .. } => {
            Some(format!("remove it with `kiln rm {name}`, or choose another name"))
        }
        Error::Running { verb: "remove", name } => {
            Some(format!("stop the container before removing it, or force it with `kiln rm -f {name}`"))
        }
        Error::Ambiguous { .. } => Some("write more digits of the id".to_owned()),
        Error::Name { name } if name.chars().count() == 1 => {
            Some("a name has at least two characters".to_owned())
        }
        Error::Name { .. } => Some("it begins with a letter or a digit".to_owned()),
        Error::NoCommand => Some("the image has none: name it after the image".to_owned()),
        Error::Mounted { name, .. } => Some(format!("unmount them with `kiln unmount {name}`")),
        Error::Paused { name } => Some(format!("let it go on with `kiln unpause {name}`")),
        Error::NotRunning { name } => Some(format!("start it with `kiln start {name}`")),
        _ => None,
    }
}

fn network_hint(error: &crate::network::Error) -> Option<String> {
    use crate::network::Error;
    let hint = match error {
        Error::NotFound { .. } => "see all networks with `kiln network ls`",
        Error::InUse { .. } => "stop them, or take them out with `kiln network disconnect`",
        Error::Ambiguous { .. } => "write more digits of the id",
        Error::NameTaken { .. } => "choose another name; `kiln network ls` shows those that are taken",
        Error::Overlaps { .. } | Error::Route { .. } => {
            "choose another subnet, or none: then a free one is taken"
        }
        Error::NoAddress { .. } => "remove containers from it, or make one with a larger subnet or range",
        Error::NoSubnet { .. } => "choose one that no route of this machine uses: `--subnet`",
        Error::AddressTaken { .. } => "choose another address, or none: then a free one is taken",
        Error::Invalid { hint, .. } => hint,
        Error::Outside { subnet, .. } => return Some(format!("choose one in {subnet}, or leave it out")),
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Gives the exit code that the end of an attachment means to the caller.
pub(super) fn exit_code(ended: Ended) -> i32 {
    match ended {
        Ended::Exit(code) => code,
        Ended::Detached => 0,
        Ended::Signal(signal) => 128 + signal,
    }
}

/// How the caller's streams take part.
pub(super) fn streams(stdio: Stdio) -> Streams {
    Streams {
        outputs: stdio.attach,
        hides: stdio.hides,
        stdin: stdio.stdin,
        size: stdio.size,
        detach_keys: stdio.detach_keys,
        keeps_signals: stdio.keeps_signals,
    }
}
