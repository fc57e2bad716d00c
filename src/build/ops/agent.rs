//! The ssh agent as a step sees it: a socket of the step's own, which lets it list keys and have things signed.
//!
//! The step never gets the user's socket. Each message is looked at: a step can't add, remove or lock keys, and an
//! agent's extensions are out of its reach, as in BuildKit. Source: OpenSSH's PROTOCOL.agent.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::build::graph::FileOwner;

/// What a step may ask for: the list of keys, a signature.
const ALLOWED: [u8; 2] = [11, 13];
/// The answer to all else: a message of one byte, "failure".
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// The longest message, as in OpenSSH.
const MESSAGE_BYTES: u32 = 256 * 1024;
/// Connections of one step at the same time; further ones wait.
const CONNECTIONS: usize = 16;

/// A socket that a step will see, and the agent behind it.
#[derive(Debug)]
pub(super) struct Door {
    listener: StdListener,
    agent: PathBuf,
}

impl Door {
    /// Makes the socket `name` in `folder`.
    pub(super) fn open(folder: &Path, name: &str, owner: &FileOwner, agent: &Path) -> io::Result<Self> {
        let path = folder.join(name);
        // The name of a socket has 107 bytes at most; a store's folder may be longer.
        let place = std::fs::File::open(folder)?;
        let short = format!("/proc/self/fd/{}/{name}", place.as_fd().as_raw_fd());
        let listener = StdListener::bind(short)?;
        listener.set_nonblocking(true)?;
        chown(&path, Some(owner.uid), Some(owner.gid))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(owner.mode))?;
        Ok(Self { listener, agent: agent.to_owned() })
    }

    /// Serves the step until this is dropped.
    pub(super) async fn serve(self) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener)?;
        let gate = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let turn = Arc::clone(&gate).acquire_owned().await.map_err(io::Error::other)?;
            let (step, _) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let agent = self.agent.clone();
            connections.spawn(async move {
                let _turn = turn;
                // An agent that is gone, or a step that leaves, ends the connection: the step's ssh says so.
                let _ = relay(step, &agent).await;
            });
        }
    }
}

async fn relay(mut step: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    loop {
        let asked = message(&mut step).await?;
        if asked.first().is_some_and(|kind| ALLOWED.contains(kind)) {
            send(&mut agent, &asked).await?;
            let answer = message(&mut agent).await?;
            send(&mut step, &answer).await?;
        } else {
            step.write_all(&FAILURE).await?;
        }
    }
}

async fn message(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    if length == 0 || length > MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn send(to: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[length.to_be_bytes().as_slice(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_may_list_keys_and_sign_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        // An agent that answers every message with its own type.
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            while let Ok(asked) = message(&mut peer).await {
                send(&mut peer, &[100, asked[0]]).await.unwrap();
            }
        });
        let uid = rustix::process::geteuid().as_raw();
        let owner = FileOwner { mode: 0o600, uid, gid: rustix::process::getegid().as_raw() };
        let door = Door::open(folder.path(), "door", &owner, &agent).unwrap();
        tokio::spawn(door.serve());
        let mut step = UnixStream::connect(folder.path().join("door")).await.unwrap();
        for (kind, answer) in [
            (11, vec![100, 11]),
            (13, vec![100, 13]),
            (17, vec![5]),
            (19, vec![5]),
            (22, vec![5]),
            (27, vec![5]),
        ] {
            send(&mut step, &[kind, 1, 2, 3]).await.unwrap();
            assert_eq!(message(&mut step).await.unwrap(), answer, "{kind}");
        }
        step.write_u32(MESSAGE_BYTES + 1).await.unwrap();
        assert!(message(&mut step).await.is_err());
    }
}
