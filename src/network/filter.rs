//! The socket for the packet filter, which is closed as late as can be.
//!
//! After elements were removed the kernel frees them when a grace period is over, some milliseconds later. Who closes a
//! socket of netfilter until then waits for that, and keeps the tables locked meanwhile (`nft_rcv_nl_event`): every start
//! of a container would wait for the end of the one before. So a process has one socket for all that it does, a command
//! leaves it to the monitor that it starts, and the monitor closes it when the kernel has done its work: where many containers
//! start one after another, when nobody has changed a table for a while.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::netlink::Socket;
use super::nft;

/// The one that isn't in use, with the number of the network namespace whose tables it changes.
static KEPT: Mutex<Option<(u64, Socket)>> = Mutex::new(None);
/// Longer than a grace period on an idle machine.
const FREED: Duration = Duration::from_millis(30);
/// After so many of those it is closed all the same.
const MOST_WAITS: usize = 10;

/// A socket for the tables of this thread's namespace.
#[derive(Debug)]
pub(super) struct Filter(Option<Socket>);

impl Filter {
    /// Gives the one that is there, or opens one.
    pub(super) fn open() -> io::Result<Self> {
        take().map_or_else(Socket::netfilter, Ok).map(|socket| Self(Some(socket)))
    }
}

impl Deref for Filter {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        self.0.as_ref().expect("it has one until it is dropped")
    }
}

impl DerefMut for Filter {
    fn deref_mut(&mut self) -> &mut Socket {
        self.0.as_mut().expect("it has one until it is dropped")
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // After an error answers may be left in it.
        if let Some(socket) = self.0.take().filter(Socket::is_clean) {
            keep(socket);
        }
    }
}

fn take() -> Option<Socket> {
    let here = namespace();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.take_if(|(namespace, _)| *namespace == here).map(|(_, socket)| socket)
}

fn keep(socket: Socket) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some((namespace(), socket));
}

/// A thread may be in another namespace than the rest of its process; without `/proc` none is told from another.
fn namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino())
}

/// Takes the socket out, for another process to keep.
pub fn lend_filter() -> Option<OwnedFd> {
    take().map(OwnedFd::from)
}

/// Gives another process the socket too, which is to use it when this one is done with it.
pub fn share_filter() -> io::Result<OwnedFd> {
    Filter::open()?.as_fd().try_clone_to_owned()
}

/// Keeps a socket that another process has lent.
pub fn keep_filter(lent: OwnedFd) {
    keep(lent.into());
}

/// Closes the socket without having anybody wait. For a process that has nothing else to do.
pub(super) fn close_filter() {
    let Some(mut socket) = take() else { return };
    let mut last = nft::generation(&mut socket).ok();
    for _ in 0..MOST_WAITS {
        std::thread::sleep(FREED);
        let now = nft::generation(&mut socket).ok();
        if now.is_none() || now == last {
            break;
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{ACK, Message};
    use super::*;

    /// What tells one socket from another.
    fn number(socket: impl std::os::fd::AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    /// A request to no subsystem: it is answered by an error.
    fn refused() -> Message {
        Message::new(0x7f << 8, ACK, &[0; 4])
    }

    // One test: the socket is the process's.
    #[test]
    fn a_process_has_one_socket_which_is_lent_and_goes_with_answers_left_in_it() {
        let first = Filter::open().unwrap();
        let known = number(&*first);
        let meanwhile = Filter::open().unwrap();
        assert_ne!(number(&*meanwhile), known, "one in use is nobody else's");
        drop(meanwhile);
        drop(first);
        assert_eq!(number(&*Filter::open().unwrap()), known, "the next one has it again");

        let lent = lend_filter().unwrap();
        assert_eq!(number(&lent), known);
        assert!(lend_filter().is_none(), "what is lent is gone");
        keep_filter(lent);
        let mut kept = Filter::open().unwrap();
        assert_eq!(number(&*kept), known, "whoever it was lent to goes on with it");

        assert!(kept.request(refused()).is_err());
        assert!(kept.batch(vec![refused(), refused()]).is_err());
        drop(kept);
        assert!(take().is_none(), "the second answer of the two may be in it");
        let fresh = Filter::open().unwrap();
        assert_ne!(number(&*fresh), known);
        drop(fresh);
        let mut asked = Filter::open().unwrap();
        let before = nft::generation(&mut asked).unwrap();
        assert!(nft::generation(&mut asked).unwrap() >= before);
        drop(asked);
        close_filter();
        assert!(take().is_none());
    }
}
