//! Layers are hashed beside the running steps, so that an image can be assembled as soon as its last one ends.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kiln_cache::{Diff, SnapshotId, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::image::layer::{self, Times};
use crate::{blocking, image, sys};

/// What wrote the files of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// A program of a RUN step.
    Program,
    /// kiln itself: COPY, ADD, WORKDIR.
    Kiln,
}

impl Maker {
    /// Returns which times the files get in an image that carries the time `epoch`.
    pub(crate) fn times(self, epoch: Option<i64>) -> Times {
        match (self, epoch) {
            (_, None) => Times::Kept,
            (Self::Program, Some(epoch)) => Times::Clamped(epoch),
            (Self::Kiln, Some(epoch)) => Times::Set(epoch),
        }
    }
}

/// The layers of a build that are being hashed.
pub(crate) struct DiffIds {
    running: Mutex<HashMap<SnapshotId, JoinHandle<()>>>,
    /// The time that the image carries, if it does.
    epoch: OnceLock<i64>,
    /// How many may be hashed at the same time; made for the first of them, since a build that hashes nothing needn't
    /// know how many processors there are.
    gate: OnceLock<Arc<Semaphore>>,
}

impl DiffIds {
    pub(super) fn new() -> Self {
        Self { running: Mutex::default(), epoch: OnceLock::new(), gate: OnceLock::new() }
    }

    /// Tells which time the image carries, before the first step runs.
    pub(crate) fn carry(&self, epoch: i64) {
        self.epoch.get_or_init(|| epoch);
    }

    /// Hashes the layer in `folder` at once, if it is hashed with the times of its files. Blocking.
    pub(super) fn of_folder(&self, folder: &Path, maker: Maker) -> Option<Diff> {
        let times = maker.times(self.epoch.get().copied());
        // What fails here is tried again, and told, by the assembly.
        let hashed = (times == Times::Kept).then(|| layer::diff_id(folder, times).ok())??;
        Some(Diff { id: hashed.0, tar_bytes: hashed.1 })
    }

    /// Starts hashing `snapshot`, made by a step of this kind, on the runtime.
    pub(super) fn start(&self, store: &Store, snapshot: &SnapshotId, maker: Maker) {
        let times = maker.times(self.epoch.get().copied());
        // One less than the processors: the steps come first.
        let threads = || sys::processors().saturating_sub(1).max(1);
        let gate = self.gate.get_or_init(|| Arc::new(Semaphore::new(threads())));
        let (store, id, gate) = (store.clone(), *snapshot, Arc::clone(gate));
        let task = tokio::spawn(async move {
            let _turn = gate.acquire().await;
            // What fails here is tried again, and told, by the assembly.
            blocking::run("hash layer", move || {
                if let Ok(None) = store.diff_by_rule(&id, times.rule()) {
                    let _ = image::compute_diff(&store, &id, times);
                }
            })
            .await;
        });
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(*snapshot, task);
    }

    /// Waits for those of `chain`; the others are given up.
    pub(crate) async fn finish(&self, chain: &[SnapshotId]) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let wanted: Vec<_> = chain.iter().filter_map(|snapshot| running.remove(snapshot)).collect();
        for task in running.into_values() {
            task.abort();
        }
        for task in wanted {
            // A task that panicked has hashed nothing; the assembly will.
            let _ = task.await;
        }
    }
}
