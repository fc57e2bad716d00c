//! What a user lends a build's steps: secrets, and signatures of ssh keys.
//!
//! Key files are served by an `ssh-agent` of the build's own. It ends with the build, and with a build that is
//! killed: it is the child of a shell that waits for the end of a pipe.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_cache::{Scratch, Store};

use crate::api::{Failure, FailureKind, Secret, SshAgent, SshSource};
use crate::redacted::Redacted;

/// What the agent runs, and kills it when its standard input ends.
const WATCH: &str = "read _; kill $SSH_AGENT_PID";

/// How long an agent may take until it listens; a busy machine has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a user lends.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    secrets: Vec<Secret>,
    /// Sockets by the names that steps know them by.
    agents: Vec<(String, PathBuf)>,
    own: Vec<OwnAgent>,
    /// Folders of CDI specs, the later ones win.
    cdi: Vec<PathBuf>,
}

/// An agent that this build started.
#[derive(Debug)]
struct OwnAgent {
    shell: Child,
    stdin: Option<ChildStdin>,
    _folder: Scratch,
}

impl Lent {
    /// Takes what a request lends; starts agents for keys. `environment` is what programs get (`PATH`),
    /// `cdi` where devices are described.
    pub(crate) fn new(
        secrets: &[Secret],
        ssh: &[SshAgent],
        (environment, cdi): (&[(String, String)], &[PathBuf]),
        store: &Store,
    ) -> Result<Self, Failure> {
        let mut lent =
            Self { secrets: secrets.to_vec(), agents: Vec::new(), own: Vec::new(), cdi: cdi.to_vec() };
        for agent in ssh {
            let socket = match &agent.source {
                SshSource::Socket(socket) => socket.clone(),
                SshSource::Keys(keys) => {
                    let (own, socket) = OwnAgent::start(&agent.id, keys, environment, store)?;
                    lent.own.push(own);
                    socket
                }
            };
            lent.agents.push((agent.id.clone(), socket));
        }
        Ok(lent)
    }

    /// Where devices are described.
    pub(super) fn cdi(&self) -> &[PathBuf] {
        &self.cdi
    }

    /// The secret of this name.
    pub(super) fn secret(&self, id: &str) -> Option<&Redacted> {
        self.secrets.iter().find(|secret| secret.id == id).map(|secret| &secret.value)
    }

    /// The names of the secrets that there are, for messages.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|secret| secret.id.as_str())
    }

    /// The socket of the agent of this name.
    pub(crate) fn agent(&self, id: &str) -> Option<&Path> {
        self.agents.iter().find(|(name, _)| name == id).map(|(_, socket)| socket.as_path())
    }
}

impl OwnAgent {
    fn start(
        id: &str,
        keys: &[Redacted],
        environment: &[(String, String)],
        store: &Store,
    ) -> Result<(Self, PathBuf), Failure> {
        let failed = |error: io::Error| {
            let failure = Failure::from_error(FailureKind::System, &error);
            let message = format!("cannot start `ssh-agent` for the keys of `--ssh {id}`");
            let failure =
                Failure { causes: vec![failure.message], message, ..Failure::new(FailureKind::System, "") };
            failure.hint(format!(
                "install openssh-client, or lend an agent that runs: `--ssh {id}=$SSH_AUTH_SOCK`"
            ))
        };
        let folder =
            store.scratch_folder().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        let program = |name: &str| {
            let mut command = Command::new(name);
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
            // A short name: that of a socket has a hundred characters at most.
            command
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .stdin(Stdio::piped());
            command
        };
        let mut shell =
            program("ssh-agent").args(["-a", "agent", "/bin/sh", "-c", WATCH]).spawn().map_err(failed)?;
        let stdin = shell.stdin.take();
        let socket = folder.path().join("agent");
        let own = |folder| Self { shell, stdin, _folder: folder };
        wait_for(folder.path()).map_err(failed)?;
        for key in keys {
            let mut add = program("ssh-add");
            add.args(["-q", "-"]).env("SSH_AUTH_SOCK", "agent").env("SSH_ASKPASS_REQUIRE", "never");
            let mut add = add.spawn().map_err(failed)?;
            if let Some(mut stdin) = add.stdin.take() {
                // ssh-add says by its code what became of the key.
                let _ = stdin.write_all(key.reveal());
            }
            if !add.wait().map_err(failed)?.success() {
                drop(own(folder));
                let message = format!("`ssh-add` refuses a key of `--ssh {id}`");
                return Err(Failure::new(FailureKind::Invalid, message));
            }
        }
        Ok((own(folder), socket))
    }
}

/// Waits until somebody listens at the socket in `folder`: between bind and listen it is there already.
fn wait_for(folder: &Path) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let folder = File::open(folder)?;
    // An address has a hundred bytes at most; a store's folder may be longer.
    let socket = format!("/proc/self/fd/{}/agent", folder.as_raw_fd());
    while UnixStream::connect(&socket).is_err() {
        if Instant::now() > end {
            return Err(io::Error::other("it doesn't listen at its socket"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // The shell reads the end and kills its agent.
        self.stdin = None;
        let _ = self.shell.wait();
    }
}
