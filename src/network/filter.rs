//! The socket for the packet filter, which is closed as late as can be.
//!
//! After elements were removed the kernel frees them when a grace period is over, some milliseconds later. Who closes a
//! socket of netfilter until then waits for that, and keeps the tables locked meanwhile (`nft_rcv_nl_event`): every start
//! of a container would wait for the end of the one before. So a process has one socket for all that it does, a command
//! leaves it to the monitor that it starts, and the monitor closes it when the kernel has done its work.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::netlink::Socket;

/// The one that isn't in use.
static KEPT: Mutex<Option<Socket>> = Mutex::new(None);
/// Longer than a grace period on an idle machine.
const FREED: Duration = Duration::from_millis(30);

/// A socket for the tables of the machine's namespace.
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
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn keep(socket: Socket) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
}

/// Takes the socket out, for another process to keep.
pub fn lend_filter() -> Option<OwnedFd> {
    take().map(OwnedFd::from)
}

/// Keeps a socket that another process has lent.
pub fn keep_filter(lent: OwnedFd) {
    keep(lent.into());
}

/// Closes the socket without having anybody wait. For a process that has nothing else to do.
pub fn close_filter() {
    if let Some(socket) = take() {
        std::thread::sleep(FREED);
        drop(socket);
    }
}
