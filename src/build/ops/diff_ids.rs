//! Layers are hashed beside the running steps, so that an image can be assembled as soon as its last one ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::{SnapshotId, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::{blocking, image};

/// The layers of a build that are being hashed.
pub(crate) struct DiffIds {
    running: Mutex<HashMap<SnapshotId, JoinHandle<()>>>,
    gate: Arc<Semaphore>,
}

impl DiffIds {
    pub(super) fn new() -> Self {
        // One less than the processors: the steps come first.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
        Self { running: Mutex::default(), gate: Arc::new(Semaphore::new(threads)) }
    }

    /// Starts hashing `snapshot` on the runtime.
    pub(super) fn start(&self, store: &Store, snapshot: &SnapshotId) {
        let (store, id, gate) = (store.clone(), *snapshot, Arc::clone(&self.gate));
        let task = tokio::spawn(async move {
            let _turn = gate.acquire().await;
            // What fails here is tried again, and told, by the assembly.
            blocking::run("hash layer", move || {
                let _ = image::compute_diff(&store, &id);
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
