//! The user's interrupt: work is ended in good order, and leaves nothing.
//!
//! Only while something is waited for: before and after that the signals have the meaning that they had, so that a
//! verb that only computes ends at once, and so does one that is interrupted a second time.

use std::future::Future;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::net::unix::pipe;

use super::Engine;
use crate::api::{Failure, FailureKind, Stop};
use crate::sys::signals::{Signals, is_ignored};

/// What interrupts: ctrl-c, and the polite `kill`.
const SIGNALS: [i32; 2] = [rustix::process::Signal::INT.as_raw(), rustix::process::Signal::TERM.as_raw()];

/// How long work that nobody waits for any more may take to tidy up behind itself.
const TIDY: Duration = Duration::from_millis(150);

/// The listener for signals, while somebody waits.
#[derive(Debug, Default)]
pub(super) struct Interrupts(Mutex<Weak<Signals>>);

impl Interrupts {
    /// Listens; several that wait at the same time share the listener.
    pub(super) fn listen(&self) -> io::Result<Arc<Signals>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = shared.upgrade() {
            return Ok(signals);
        }
        // What the caller made kiln ignore stays ignored.
        let heeded: Vec<i32> = SIGNALS.into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let signals = Arc::new(Signals::take(&heeded)?);
        *shared = Arc::downgrade(&signals);
        Ok(signals)
    }
}

/// Waits for a signal. From then on they have their former meaning: the second one kills.
async fn heard(signals: Arc<Signals>) -> io::Result<()> {
    let pipe = signals.as_fd().try_clone_to_owned()?;
    // It stays readable, so that all who wait hear it.
    pipe::Receiver::from_owned_fd(pipe)?.readable().await
}

impl Engine {
    /// Waits for `work`, which heeds `stop`: the user's interrupt gives that order.
    pub(super) fn wait_heeding<T>(&self, stop: &Stop, work: impl Future<Output = T>) -> Result<T, Failure> {
        let signals =
            self.interrupts.listen().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        self.block_on(async {
            let mut work = std::pin::pin!(work);
            tokio::select! {
                biased;
                value = &mut work => return value,
                Ok(()) = heard(signals) => stop.give(),
            }
            work.await
        })
    }

    /// Waits for `work`, and drops it when the user interrupts.
    pub(super) fn wait_unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let stop = Stop::default();
        let value = self.wait_heeding(&stop, stop.unless(work))?;
        value.ok_or_else(|| Failure::new(FailureKind::Cancelled, "stopped"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What is still under way is of no use to anybody; the process ends after this.
            runtime.shutdown_timeout(TIDY);
        }
    }
}
