//! A process tree that is started before it is known what it shall be.

use std::io;
use std::os::fd::OwnedFd;

use super::child::{AHEAD, spec_file};
use super::error::{At, StartError};
use super::process::{Process, Starting};
use super::rootfs::Stubs;
use super::spec::Spec;

/// A first process that has set its stage up and waits to become a program. Dropping it ends it.
#[derive(Debug)]
pub struct Waiting {
    spec: Spec,
    starting: Starting,
    stubs: Stubs,
}

impl Waiting {
    /// Clones one for whatever has the same stage as `spec`, which says its name, its network, what it may see and its
    /// limits, its usual mounts, and as root filesystem any folder that exists.
    ///
    /// For single-threaded processes only, as [`super::start`]. What goes wrong in the child shows in [`Waiting::go`].
    pub fn begin(spec: Spec) -> Result<Waiting, StartError> {
        let starting = Starting::begin_ahead(&spec, None)?;
        Ok(Waiting { spec, starting, stubs: Stubs::default() })
    }

    /// Passes the time until the spec comes: with the layer of the usual mount points, and with reading a spec, since what
    /// is read first waits for its code to be mapped.
    pub fn rehearse(&mut self) {
        // Without them it is only slower.
        let _ = self.stubs.layer(&self.spec, &[]);
        let text = serde_json::to_vec(&self.spec).unwrap_or_default();
        // It is thrown away.
        let _ = serde_json::from_slice::<Spec>(&text);
    }

    /// Gives its network namespace.
    pub fn network(&self) -> io::Result<OwnedFd> {
        let network = self.starting.process.network().ok_or(io::ErrorKind::NotFound)?;
        network.try_clone_to_owned()
    }

    /// Tells whether it can become `spec`.
    pub fn fits(&self, spec: &Spec) -> bool {
        spec.id == self.spec.id && spec.has_stage_of(&self.spec)
    }

    /// Tells whether `network` is its network namespace, or none is given.
    pub fn is_in(&self, network: Option<&OwnedFd>) -> bool {
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino).ok();
        network.is_none_or(|given| self.network().is_ok_and(|own| inode(&own) == inode(given)))
    }

    /// Lets it become the program of a spec that [fits](Waiting::fits); returns when that runs.
    ///
    /// With `connected` the program waits until that returns, which is called when all else is ready; its error ends it.
    /// `None` when it could not be got ready for anything: the spec is to be started in the other way.
    pub fn go(
        mut self,
        spec: &Spec,
        stdio: &[OwnedFd; 3],
        connected: Option<impl FnOnce() -> Result<(), StartError>>,
    ) -> Result<Option<Process>, StartError> {
        let file = spec_file(spec).at("start", || "cannot write down what is to be started")?;
        let run = || {
            self.starting.go(spec, &file, stdio, &mut self.stubs, connected.is_some())?;
            self.starting.advance()?;
            if let Some(connected) = connected {
                connected()?;
                self.starting.let_run()?;
            }
            while !self.starting.advance()? {}
            Ok(())
        };
        match run() {
            // Taking the layer away takes the kernel a moment, in which the program may have ended.
            Ok(()) => Ok(Some(self.starting.process.keeping(self.stubs))),
            Err(StartError { stage, .. }) if stage == AHEAD => Ok(None),
            Err(error) => Err(error),
        }
    }
}
