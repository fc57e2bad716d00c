//! What all steps of one build share: made when the first step needs it, gone with the build.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::diff_ids::DiffIds;
use super::{Bases, Credentials, Lent, Remotes, system};
use crate::api::NetworkMode;
use crate::build::solve::OpError;
use crate::network::{self, Endpoint, Networks, Pool};
use crate::runtime::Launcher;

/// How many networks are made ahead of the steps that will use them.
const NETWORKS_AHEAD: usize = 3;

/// The launcher, the networks and the hashing behind a build's steps.
pub(crate) struct Machine {
    networks: Networks,
    pool: OnceLock<Pool>,
    launcher: OnceLock<Launcher>,
    starting: std::sync::Mutex<()>,
    /// Layers that are hashed beside the running steps.
    pub(crate) diff_ids: DiffIds,
    /// Bytes of `/dev/shm`; 0 is the default.
    pub(super) shm_bytes: u64,
    /// Secrets and agents.
    pub(super) lent: Lent,
    /// What reaches other machines.
    pub(crate) remotes: Remotes,
    /// Images that may have to be pulled.
    pub(crate) bases: Bases,
}

impl Machine {
    /// Returns a machine that has started nothing yet; `networks` is the store's folder for them.
    pub(crate) fn new(networks: &Path, credentials: Credentials, lent: Lent) -> Self {
        Self {
            networks: Networks::new(networks),
            pool: OnceLock::new(),
            launcher: OnceLock::new(),
            starting: std::sync::Mutex::new(()),
            diff_ids: DiffIds::new(),
            shm_bytes: 0,
            lent,
            remotes: Remotes::new(credentials),
            bases: Bases::default(),
        }
    }

    /// Sets the size of `/dev/shm` in steps.
    pub(crate) fn with_shm_bytes(self, bytes: Option<u64>) -> Self {
        Self { shm_bytes: bytes.unwrap_or(0), ..self }
    }

    /// Starts the launcher and makes networks ahead, so that the first step finds them ready.
    ///
    /// What goes wrong here goes wrong again, and is told, at the first step.
    pub(crate) fn prepare(self: &Arc<Self>, bridged: bool) {
        let machine = Arc::clone(self);
        std::thread::spawn(move || {
            if bridged {
                machine.pool();
            }
            let _ = machine.launcher();
        });
    }

    /// The launcher, started at the first call. Blocking.
    pub(super) fn launcher(&self) -> Result<&Launcher, OpError> {
        if let Some(launcher) = self.launcher.get() {
            return Ok(launcher);
        }
        let _one = self.starting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(launcher) = self.launcher.get() {
            return Ok(launcher);
        }
        let launcher = Launcher::start().map_err(|error| system(&error))?;
        Ok(self.launcher.get_or_init(|| launcher))
    }

    /// A connected network namespace for one step. Blocking.
    pub(super) fn endpoint(&self) -> Result<Endpoint, OpError> {
        self.pool().take().map_err(|error| system(&error))
    }

    /// Gives a namespace back after its step; its address is free again.
    pub(super) fn release(&self, endpoint: Endpoint) {
        self.networks.release(endpoint);
    }

    /// The resolver configuration that a step sees.
    pub(super) fn resolv_conf(&self, mode: NetworkMode) -> String {
        match mode {
            NetworkMode::Host => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            NetworkMode::Bridge => network::host_resolv_conf(),
            NetworkMode::None => String::new(),
        }
    }

    fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::new(self.networks.clone(), NETWORKS_AHEAD))
    }
}
