//! Endpoints made ahead for a build's RUN steps.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Endpoint, Network, Result};

/// What stands in the records of addresses.
const OWNER: &str = "build";

/// Ready endpoints, made by a thread in the background, each for one step at a time.
///
/// An endpoint comes back after its step: it serves another one if it is as it was made, and goes otherwise, which
/// is looked at when another one is wanted. To make and to remove one costs as much as the rest of a small step. What
/// was made and not used goes with the pool; its thread has ended when the drop returns.
#[derive(Debug)]
pub struct Pool {
    network: Network,
    ready: Mutex<Option<Receiver<Endpoint>>>,
    returned: Mutex<Vec<Endpoint>>,
    maker: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts to make endpoints; `depth` of them wait at a time, and `most` are made in all.
    ///
    /// This starts a thread and touches the host's network, so it is for a build that has missed its cache.
    pub fn new(network: Network, depth: usize, most: usize) -> Self {
        // One more is in the thread's hand when the channel is full.
        let (sender, ready) = sync_channel(depth.saturating_sub(1));
        let own = network.clone();
        // A failure ends the thread: the step that asks next connects by itself, and reports.
        let make = move || {
            let make_one = |_: &usize| own.connect(OWNER).is_ok_and(|endpoint| sender.send(endpoint).is_ok());
            (0..most).take_while(make_one).for_each(drop);
        };
        let maker = std::thread::Builder::new().name("netns pool".to_owned()).spawn(make).ok();
        Self { network, ready: Mutex::new(Some(ready)), returned: Mutex::default(), maker }
    }

    /// Gives an endpoint whose namespace is as it was made, and in which no process is.
    pub fn take(&self) -> Result<Endpoint> {
        if let Some(endpoint) = self.take_returned() {
            return Ok(endpoint);
        }
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match ready.as_ref().and_then(|ready| ready.recv().ok()) {
            Some(endpoint) => Ok(endpoint),
            None => self.network.connect(OWNER),
        }
    }

    /// Gives an endpoint as [`Pool::take`] does, if one is ready.
    pub fn try_take(&self) -> Option<Endpoint> {
        self.take_returned().or_else(|| self.ready.try_lock().ok()?.as_ref()?.try_recv().ok())
    }

    /// Takes an endpoint back, whose processes are dead and never had `CAP_NET_ADMIN`.
    pub fn give_back(&self, endpoint: Endpoint) {
        self.returned().push(endpoint);
    }

    /// Gives one that came back as it was made.
    fn take_returned(&self) -> Option<Endpoint> {
        loop {
            let mut endpoint = self.returned().pop()?;
            if endpoint.is_untouched() {
                return Some(endpoint);
            }
            drop(endpoint);
        }
    }

    fn returned(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.ready.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
    }
}
