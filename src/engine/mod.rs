//! One method per user verb.
//!
//! An [`Engine`] is cheap to make: the store is opened at the first verb that needs it, the async
//! runtime at the first await. A no-op build never gets that far. Every public method blocks and
//! gives an [`api::Failure`](crate::api::Failure) when it can't do what it was asked.

mod assemble;
mod attach;
mod base;
mod build;
mod cache;
mod change;
mod check;
mod commit;
mod containers;
mod contexts;
mod cp;
mod create;
mod debug;
mod devices;
mod diff;
mod dockerfile;
mod events;
mod exec;
mod export;
pub mod flush;
mod format;
mod history;
mod images;
mod import;
mod inspect_container;
mod inspect_image;
mod interrupt;
mod kill;
mod leftovers;
mod load;
mod logs;
mod mount;
mod network;
mod outfile;
mod outline;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod restore;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod stats;
mod stop;
mod system_check;
mod tag;
mod top;
mod update;
mod volume;
mod volume_copies;
mod wait;
mod why;

use std::future::Future;
use std::sync::OnceLock;

use kiln_cache::Store;

use self::interrupt::Interrupts;

use crate::api::{Failure, FailureKind, Settings};
pub use crate::container::Ahead;
use crate::container::Slot;
use crate::registry::Client;

/// Threads for work that blocks, started as they are needed: each step that runs has one.
const MOST_THREADS: usize = 4096;

/// The parts behind every verb, made when first needed.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    store: OnceLock<Store>,
    runtime: OnceLock<tokio::runtime::Runtime>,
    client: OnceLock<Client>,
    interrupts: Interrupts,
    ahead: Slot,
}

impl Engine {
    /// Returns an engine that has opened nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            store: OnceLock::new(),
            runtime: OnceLock::new(),
            client: OnceLock::new(),
            interrupts: Interrupts::default(),
            ahead: Slot::default(),
        }
    }

    /// Uses what was begun before it was known what it is for.
    #[must_use]
    pub fn with(mut self, ahead: Option<Ahead>) -> Self {
        self.ahead = Slot::new(ahead.into());
        self
    }

    /// Returns where this engine keeps its state.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the store, opened at the first call.
    pub(crate) fn store(&self) -> Result<&Store, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.settings.root)
            .map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Returns the store for a verb that removes: on a full disk there is room to write that down.
    pub(crate) fn store_to_shrink(&self) -> Result<&Store, Failure> {
        let store = self.store()?;
        store.make_room().map_err(crate::image::Error::from)?;
        Ok(store)
    }

    /// Returns the registry client; it makes no connection before it is asked.
    pub(crate) fn client(&self) -> &Client {
        self.client.get_or_init(|| Client::new(&self.settings.certs))
    }

    /// Waits for `future` on the engine's runtime, which is started at the first call.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Failure> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .max_blocking_threads(MOST_THREADS)
                    .enable_all()
                    .build()
                    .map_err(|error| Failure::from_error(FailureKind::System, &error))?;
                self.runtime.get_or_init(|| runtime)
            }
        };
        Ok(runtime.block_on(future))
    }
}
