//! What all steps of one build share: made when the first step needs it, gone with the build.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::diff_ids::DiffIds;
use super::{Bases, Credentials, Lent, Remotes, system};
use crate::api::NetworkMode;
use crate::build::solve::{Context, OpError};
use crate::network::{self, Endpoint, Network, Networks, Pool};
use crate::runtime::{Ahead, Launcher, Net, Spec};
use kiln_cache::{Mounts, Staged, Store};

/// How many networks are made ahead of the steps that will use them. Each costs as much as a small step, and one that
/// comes back serves the next step: a chain of steps needs two.
const NETWORKS_AHEAD: usize = 1;

/// How many seats are made ahead. To make one takes as long as a small step, and longer on a busy machine.
const SEATS_AHEAD: usize = 2;

/// What a step starts from.
pub(super) struct Seat {
    /// The network's mode, and the network of one that has its own.
    pub(super) mode: NetworkMode,
    pub(super) endpoint: Option<Endpoint>,
    /// A child that has set up all that doesn't depend on the step.
    pub(super) ahead: Option<Ahead>,
    /// The folder that takes its changes.
    pub(super) staged: Option<Staged>,
}

/// The launcher, the networks and the hashing behind a build's steps.
pub(crate) struct Machine {
    networks: Networks,
    /// What steps join instead of the default network.
    join: Option<Network>,
    /// For the next steps, the oldest first; the launcher, which ends when its children have, goes after them.
    seats: Mutex<Vec<Seat>>,
    /// How many steps may still come.
    steps: AtomicUsize,
    /// A folder to attach a stage at.
    empty: Mounts,
    pool: OnceLock<Pool>,
    launcher: OnceLock<Launcher>,
    starting: Mutex<()>,
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
    /// Returns a machine that has started nothing yet.
    pub(crate) fn new(store: &Store, credentials: Credentials, lent: Lent) -> Self {
        Self {
            networks: Networks::new(&store.root().join("networks")),
            join: None,
            seats: Mutex::default(),
            steps: AtomicUsize::new(0),
            empty: store.overlay(&[], None),
            pool: OnceLock::new(),
            launcher: OnceLock::new(),
            starting: Mutex::default(),
            diff_ids: DiffIds::new(),
            shm_bytes: 0,
            lent,
            remotes: Remotes::new(credentials),
            bases: Bases::default(),
        }
    }

    /// Sets the network that steps with one join.
    pub(crate) fn with_network(self, network: Network) -> Self {
        Self { join: Some(network), ..self }
    }

    /// Lists who is known by name in the network that steps join: names, and addresses.
    pub(super) fn neighbours(&self, mode: NetworkMode) -> Vec<(String, String)> {
        let network = self.join.as_ref().filter(|_| mode == NetworkMode::Bridge);
        network.map(Network::known).unwrap_or_default()
    }

    /// Sets the size of `/dev/shm` in steps.
    pub(crate) fn with_shm_bytes(self, bytes: Option<u64>) -> Self {
        Self { shm_bytes: bytes.unwrap_or(0), ..self }
    }

    /// Starts the launcher, makes networks ahead and a seat for the first of `steps`, so that it finds them ready.
    ///
    /// What goes wrong here goes wrong again, and is told, at the first step.
    pub(crate) fn prepare(self: &Arc<Self>, steps: &[NetworkMode]) {
        let Some(mode) = steps.first().copied() else { return };
        self.steps.store(steps.len(), Ordering::Relaxed);
        let (machine, bridged) = (Arc::clone(self), steps.contains(&NetworkMode::Bridge));
        std::thread::spawn(move || {
            if bridged {
                // The step that asks next connects by itself, and reports.
                let _ = machine.pool();
            }
            if machine.launcher().is_ok() {
                machine.look_ahead(mode, || machine.endpoint().ok(), || None);
            }
        });
    }

    /// A place for a step to start from. Blocking.
    pub(super) fn seat(&self, mode: NetworkMode) -> Result<Seat, OpError> {
        let ready = {
            let mut seats = self.lock_seats();
            seats.iter().position(|seat| seat.mode == mode).map(|index| seats.remove(index))
        };
        // The last ones to start need none behind them.
        let _ = self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |steps| steps.checked_sub(1));
        match ready {
            Some(seat) => Ok(seat),
            None => {
                let endpoint = if mode == NetworkMode::Bridge { Some(self.endpoint()?) } else { None };
                Ok(Seat { mode, endpoint, ahead: None, staged: None })
            }
        }
    }

    /// Makes seats while a step runs, for those that come next and are probably alike.
    pub(super) fn look_ahead_to_next(&self, mode: NetworkMode, context: &Context) {
        // What goes wrong here goes wrong again, and is told, at the next step.
        let staged = || context.store.stage(&context.lease).ok();
        while self.look_ahead(mode, || self.pool().ok()?.try_take(), staged) {}
    }

    /// Makes a seat; false when there are enough, or it can't be made now.
    fn look_ahead(
        &self,
        mode: NetworkMode,
        endpoint: impl FnOnce() -> Option<Endpoint>,
        staged: impl FnOnce() -> Option<Staged>,
    ) -> bool {
        let wanted = self.steps.load(Ordering::Relaxed).min(SEATS_AHEAD);
        if mode == NetworkMode::None || self.lock_seats().len() >= wanted {
            return false;
        }
        let endpoint = match mode {
            NetworkMode::Bridge => endpoint(),
            NetworkMode::Host | NetworkMode::None => None,
        };
        if endpoint.is_none() && mode == NetworkMode::Bridge {
            return false;
        }
        let spec = Spec { rootfs: self.empty.clone(), shm_bytes: self.shm_bytes, ..step_spec(mode) };
        let namespace = endpoint.as_ref().map(|endpoint| endpoint.namespace.try_clone()).transpose();
        let ahead = (self.launcher.get().zip(namespace.ok()))
            .and_then(|(launcher, namespace)| launcher.ahead(spec, namespace).ok());
        self.lock_seats().push(Seat { mode, endpoint, ahead, staged: staged() });
        true
    }

    fn lock_seats(&self) -> std::sync::MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The launcher, started at the first call. Blocking.
    pub(super) fn launcher(&self) -> Result<&Launcher, OpError> {
        if let Some(launcher) = self.launcher.get() {
            return Ok(launcher);
        }
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = self.launcher.get() {
            return Ok(launcher);
        }
        let launcher = Launcher::start().map_err(|error| system(&error))?;
        Ok(self.launcher.get_or_init(|| launcher))
    }

    /// A connected network namespace for one step. Blocking.
    pub(super) fn endpoint(&self) -> Result<Endpoint, OpError> {
        self.pool()?.take().map_err(|error| system(&error))
    }

    /// Gives a namespace back after its step. A `privileged` one could change it for good: it goes.
    pub(super) fn release(&self, endpoint: Endpoint, privileged: bool) {
        if let (false, Some(pool)) = (privileged, self.pool.get()) {
            pool.give_back(endpoint);
        }
    }

    /// The resolver configuration that a step sees.
    pub(super) fn resolv_conf(&self, mode: NetworkMode) -> String {
        match mode {
            NetworkMode::Host => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            NetworkMode::Bridge => network::host_resolv_conf(),
            NetworkMode::None => String::new(),
        }
    }

    fn pool(&self) -> Result<&Pool, OpError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let network = match &self.join {
            Some(network) => network.clone(),
            None => self.networks.default_network().map_err(|error| system(&error))?,
        };
        let steps = || self.steps.load(Ordering::Relaxed);
        Ok(self.pool.get_or_init(|| Pool::new(network, NETWORKS_AHEAD, steps())))
    }
}

/// What the specs of all steps with this network have in common.
pub(super) fn step_spec(mode: NetworkMode) -> Spec {
    let network = if mode == NetworkMode::Host { Net::Host } else { Net::Namespace };
    Spec { network, volatile: true, remove_stubs: true, ..Spec::default() }
}
