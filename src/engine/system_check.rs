//! `kiln system check`.
//!
//! 1. The rows of the store, against one another.
//! 2. Every blob, and every layer's files, read and hashed on all processors.
//! 3. Every image's documents against its layers.
//! 4. What nobody needs: in the store, and on the machine.
//!
//! Builds may go on meanwhile; what is born or dies during the check is no damage.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kiln_cache::{Blob, Digest, Fault, Inventory, Severity, SnapshotId, Store, Subject};

use super::{Engine, leftovers};
use crate::api::{
    Event, Events, Failure, FailureKind, Problem, Repairs, SystemCheckReport, SystemCheckRequest,
};
use crate::image;
use crate::oci::Reference;
use crate::sys;

/// Bytes after which progress is told again.
const TOLD_BYTES: u64 = 64 << 20;

impl Engine {
    /// Checks all that the store holds, and what kiln left on the machine.
    pub fn system_check(
        &self,
        request: &SystemCheckRequest,
        events: &Events,
    ) -> Result<SystemCheckReport, Failure> {
        let store = self.store()?;
        let check = Check { store, quick: request.quick, events, bytes: AtomicU64::new(0) };
        let (report, faults) = self.look(&check)?;
        if !request.repair || report.problems.is_empty() {
            return Ok(report);
        }
        // Mounts first: what is mounted on can't be collected.
        self.tidy(store)?;
        let repaired = store.repair(&faults).map_err(image::Error::from)?;
        let (mut report, _) = self.look(&Check { quick: true, ..check })?;
        let of_image = |(id, names): (String, Vec<String>)| {
            if names.is_empty() {
                format!("sha256:{id}")
            } else {
                names.iter().map(|name| familiar(name)).collect::<Vec<_>>().join(", ")
            }
        };
        report.repaired = Some(Repairs {
            images: repaired.images.into_iter().map(of_image).collect(),
            records: repaired.records,
            layers: repaired.swept.snapshots,
            blobs: repaired.swept.blobs,
            bytes: repaired.swept.bytes,
        });
        Ok(report)
    }

    fn look(&self, check: &Check<'_>) -> Result<(SystemCheckReport, Vec<Fault>), Failure> {
        let store = check.store;
        let (inventory, mut faults) = store.check_rows(check.quick).map_err(image::Error::from)?;
        faults.extend(check.contents(&inventory)?);
        faults.extend(check.images(&faults)?);
        faults.extend(store.check_merged().map_err(image::Error::from)?);
        faults.extend(store.check_leftovers().map_err(image::Error::from)?);
        let mut problems: Vec<Problem> = Vec::new();
        for fault in &faults {
            problems.push(problem(store, fault)?);
        }
        problems.extend(leftovers::of_machine(self, store, &inventory.pins)?);
        problems.sort_by_key(|problem| !problem.damage);
        let report = SystemCheckReport {
            problems,
            blobs: inventory.blobs.len() as u64,
            layers: inventory.snapshots.len() as u64,
            records: inventory.records,
            images: inventory.images,
            bytes: check.bytes.load(Ordering::Relaxed),
            repaired: None,
        };
        Ok((report, faults))
    }

    /// Removes what the store's own collector doesn't know of.
    fn tidy(&self, store: &Store) -> Result<(), Failure> {
        self.containers().sweep(store).map_err(super::containers::failure)?;
        leftovers::remove(self, store)
    }
}

/// One pass over the store.
struct Check<'a> {
    store: &'a Store,
    quick: bool,
    events: &'a Events,
    bytes: AtomicU64,
}

/// What one thread looks at at a time.
enum Task {
    Blob(Blob),
    Layer(SnapshotId),
}

impl Check<'_> {
    /// Reads all blobs and layers on all processors.
    fn contents(&self, inventory: &Inventory) -> Result<Vec<Fault>, Failure> {
        let layers = inventory.snapshots.iter().copied().map(Task::Layer);
        let tasks: Vec<Task> = layers.chain(inventory.blobs.iter().copied().map(Task::Blob)).collect();
        let (next, result) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
        let keep = |found: Result<Option<Fault>, image::Error>| {
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match (found, result.as_mut()) {
                (Ok(fault), Ok(faults)) => faults.extend(fault),
                (Err(error), Ok(_)) => *result = Err(error),
                (_, Err(_)) => {}
            }
        };
        let threads = sys::processors().min(tasks.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        keep(self.one(task));
                    }
                });
            }
        });
        let mut faults = result.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        // In the order of the store, whichever thread came first.
        faults.sort_by_cached_key(|fault| format!("{:?}", fault.subject));
        Ok(faults)
    }

    fn one(&self, task: &Task) -> Result<Option<Fault>, image::Error> {
        let passed = |bytes: u64| {
            let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
            if before / TOLD_BYTES != (before + bytes) / TOLD_BYTES {
                let item = "verified".to_owned();
                self.events.send(Event::Transfer { step: 0, item, done: before + bytes, total: 0 });
            }
        };
        match task {
            Task::Blob(blob) => Ok(self.store.check_blob(blob, self.quick, &passed)?),
            Task::Layer(id) => image::check_snapshot(self.store, id, self.quick, &passed),
        }
    }

    /// Compares documents with layers, where the blobs are sound.
    fn images(&self, faults: &[Fault]) -> Result<Vec<Fault>, Failure> {
        let is_sound = |digest: &Digest| !faults.iter().any(|fault| fault.subject == Subject::Blob(*digest));
        let mut found = Vec::new();
        // A row that can't be read was told before.
        let images = self.store.images().unwrap_or_default();
        for image in
            images.iter().filter(|image| is_sound(&image.id) && image.manifest.is_none_or(|id| is_sound(&id)))
        {
            found.extend(image::check_image(self.store, image)?);
        }
        Ok(found)
    }
}

/// What to do about damage, and about what is left over.
const REPAIR: &str = "`kiln system check --repair` drops it and what stands on it; then build or pull again";
const COLLECT: &str = "`kiln prune` removes it";

/// Puts a fault of the store into the user's words.
fn problem(store: &Store, fault: &Fault) -> Result<Problem, Failure> {
    let damage = fault.severity == Severity::Damage;
    let (kind, name) = match &fault.subject {
        Subject::Database => ("database", "meta.db".to_owned()),
        Subject::Blob(digest) => ("blob", digest.to_string()),
        Subject::Snapshot(id) => ("layer", users_of(store, id)?),
        Subject::Record(row) => ("build record", row.to_string()),
        Subject::Image(id) => ("image", image_name(store, id)?),
        Subject::Name(name) => ("name", familiar(name)),
        Subject::Pin(owner) => leftovers::owner_of_pin(owner),
        Subject::Merged(name) => ("merged layers", name.clone()),
        Subject::CacheMount(name) => ("cache mount", name.clone()),
        Subject::Place(place) => ("leftover", (*place).to_owned()),
    };
    let remedy = match &fault.subject {
        Subject::Merged(_) => {
            "`kiln system check --repair` drops it: it is made again when it is needed".to_owned()
        }
        Subject::Database => {
            "`kiln system check --repair` makes its indexes anew; if that doesn't help, move the store away"
                .to_owned()
        }
        Subject::Pin(_) if kind == "mount" => {
            format!("take it away with `kiln unmount {name}` and mount it again")
        }
        Subject::Pin(_) => format!("remove it with `kiln rm -f {name}` and run it again"),
        _ if damage => REPAIR.to_owned(),
        _ => COLLECT.to_owned(),
    };
    Ok(Problem { damage, kind, name, problem: fault.problem.clone(), remedy })
}

/// A layer's name, and the images that have it.
fn users_of(store: &Store, id: &SnapshotId) -> Result<String, Failure> {
    let images = store.images().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
    let users = images.into_iter().filter(|image| image.chain.contains(id));
    let names: Vec<String> = users.flat_map(|image| image.names).map(|name| familiar(&name)).collect();
    Ok(if names.is_empty() { id.to_string() } else { format!("{id} of {}", names.join(", ")) })
}

fn image_name(store: &Store, hex: &str) -> Result<String, Failure> {
    let digest = format!("sha256:{hex}");
    let found = match digest.parse() {
        Ok(id) => store.image(&id).map_err(|error| Failure::from_error(FailureKind::System, &error))?,
        Err(_) => None,
    };
    let names: Vec<String> =
        found.into_iter().flat_map(|image| image.names).map(|name| familiar(&name)).collect();
    Ok(if names.is_empty() { digest } else { names.join(", ") })
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}
