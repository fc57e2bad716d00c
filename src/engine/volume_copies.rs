//! `kiln volume export`, `import`, `clone` and `snapshot`.
//!
//! A copy is what all containers that have the volume had written at one moment: they stand still until it is made.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::Engine;
use super::containers::failure;
use super::outfile;
use super::volume::told;
use crate::api::{ContainerState, Failure, FailureKind, VolumeCopyRequest};
use crate::container::Record as Container;
use crate::volume::{Error, Lock, Record, Unfinished, Volumes};

/// The label that tells what a snapshot is of.
const SNAPSHOT_OF: &str = "kiln.snapshot.of";

impl Engine {
    /// Makes a volume that is a copy of another one, and gives its name.
    pub fn copy_volume(&self, request: &VolumeCopyRequest) -> Result<String, Failure> {
        let volumes = self.volumes_of_store();
        let source = volumes.find(&request.from).map_err(told)?;
        let name = match &request.to {
            Some(name) => name.clone(),
            None => free_name(&volumes, &request.from, self.now())?,
        };
        volumes.check_free(&name).map_err(told)?;
        let (_lock, copy) = self.copy_of_volume(&volumes, &request.from)?;
        let mut labels = source.labels;
        if request.readonly {
            labels.insert(SNAPSHOT_OF.to_owned(), request.from.clone());
        } else {
            labels.remove(SNAPSHOT_OF);
        }
        labels.extend(request.labels.iter().cloned());
        let record = Record { labels, readonly: request.readonly, ..Record::named(&name) };
        copy.finish(record).map_err(told)?;
        self.containers().tell_volume(&name, "create", &[("driver", "local".to_owned())]);
        Ok(name)
    }

    /// Writes the files of a volume as one tar, to `output` or to standard output.
    pub fn export_volume(&self, name: &str, output: Option<&Path>) -> Result<(), Failure> {
        let volumes = self.volumes_of_store();
        volumes.find(name).map_err(told)?;
        // Whoever reads the tar may be slow: nobody has to wait for that.
        let (_lock, copy) = self.copy_of_volume(&volumes, name)?;
        outfile::write(output, |out| crate::container::pack_folder(&copy.data(), out).map_err(failure))
    }

    /// Fills a volume with the files of a tar; one that has some already only with `force`, and then it has no others.
    pub fn import_volume(
        &self,
        name: &str,
        archive: &mut (dyn Read + Send),
        force: bool,
    ) -> Result<(), Failure> {
        let (volumes, containers) = (self.volumes_of_store(), self.containers());
        match volumes.find(name) {
            Err(Error::NotFound { .. }) => {}
            found => refuse_import(&volumes, &found.map_err(told)?, force)?,
        }
        refuse_running(name, &containers.having_volume(name).map_err(failure)?)?;
        let new = volumes.begin().map_err(told)?;
        crate::container::unpack_folder(archive, &new.data())
            .map_err(|error| refused_archive(name, error))?;
        let users = containers.having_volume(name).map_err(failure)?;
        let _lock = volumes.lock_exclusive().map_err(told)?;
        // Those that don't run are kept from starting on the old files.
        refuse_running(name, &users)?;
        let _still = containers.hold_still(&users).map_err(failure)?;
        match volumes.find(name) {
            Err(Error::NotFound { .. }) => {
                new.finish(Record::named(name)).map_err(told)?;
                containers.tell_volume(name, "create", &[("driver", "local".to_owned())]);
            }
            found => {
                refuse_import(&volumes, &found.map_err(told)?, force)?;
                new.replace(name).map_err(told)?;
            }
        }
        Ok(())
    }

    /// Copies the files of a volume as they are at one moment.
    fn copy_of_volume(&self, volumes: &Volumes, name: &str) -> Result<(Lock, Unfinished), Failure> {
        let containers = self.containers();
        // Looked for before the lock: to put right what a killed monitor left may need it.
        let users = containers.having_volume(name).map_err(failure)?;
        let lock = volumes.lock_shared().map_err(told)?;
        let _filled = volumes.lock_content(name).map_err(told)?;
        let _held = volumes.hold(name).map_err(told)?;
        let copy = volumes.begin().map_err(told)?;
        let still = containers.hold_still(&users).map_err(failure)?;
        copy.copy(&volumes.data(name)).map_err(told)?;
        drop(still);
        Ok((lock, copy))
    }

    fn now(&self) -> jiff::Timestamp {
        let fixed = self.settings().source_date_epoch;
        fixed
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .unwrap_or_else(jiff::Timestamp::now)
    }
}

/// A snapshot's name when none is given: when it was taken, and a number where there is one of that second.
fn free_name(volumes: &Volumes, of: &str, now: jiff::Timestamp) -> Result<String, Failure> {
    let base = format!("{of}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut name = base.clone();
    for number in 2.. {
        match volumes.check_free(&name) {
            Err(Error::Exists { .. }) => name = format!("{base}-{number}"),
            free => return free.map(|()| name).map_err(told),
        }
    }
    Ok(base)
}

/// Says what is wrong with an archive, which isn't one of a container's files.
fn refused_archive(name: &str, error: crate::container::Error) -> Failure {
    match error {
        crate::container::Error::Layer { source, .. } => {
            let message = format!("cannot import into volume `{name}`: {source}");
            Failure::new(FailureKind::Invalid, message)
                .hint("it takes a tar archive, as `kiln volume export` writes one")
        }
        error => failure(error),
    }
}

fn refuse_import(volumes: &Volumes, record: &Record, force: bool) -> Result<(), Failure> {
    let name = &record.name;
    let refused = |why: String| {
        Err(Failure::new(FailureKind::Conflict, why)
            .hint("import into another volume: it is made when there is none"))
    };
    if !record.options.is_empty() {
        return refused(format!(
            "volume `{name}` has files that its driver mounts: nothing is imported there"
        ));
    }
    if record.readonly {
        return refused(format!("volume `{name}` is a snapshot, which doesn't change"));
    }
    if force || volumes.is_empty(name).map_err(told)? {
        return Ok(());
    }
    let failure = Failure::new(FailureKind::Conflict, format!("volume `{name}` is not empty"));
    Err(failure.hint("`--force` replaces all that is in it"))
}

fn refuse_running(name: &str, users: &[Container]) -> Result<(), Failure> {
    let running = users.iter().filter(|user| user.state.status.is_alive());
    let running: BTreeMap<&str, ContainerState> =
        running.map(|user| (user.name.as_str(), user.state.status)).collect();
    if running.is_empty() {
        return Ok(());
    }
    let users = running.iter().map(|(user, state)| format!("container `{user}`, which is {}", state.name()));
    let names: Vec<&str> = running.keys().copied().collect();
    let failure = told(Error::InUse { name: name.to_owned(), users: users.collect() });
    Err(failure.hint(format!("stop them first: `kiln stop {}`", names.join(" "))))
}
