//! What kiln left on the machine outside of the store: mounts, cgroups, links and packet filters without an owner,
//! and what containers that are gone keep in the store.

use std::path::Path;

use kiln_cache::Store;

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, FailureKind, Problem};
use crate::network::{Difference, Networks};
use crate::runtime;

/// What helps against them.
const REMEDY: &str = "`kiln system check --repair` removes it";

/// Looks for what no process and no container owns; `pins` are the owners that the store knows.
pub(super) fn of_machine(engine: &Engine, store: &Store, pins: &[String]) -> Result<Vec<Problem>, Failure> {
    let mut problems = Vec::new();
    let mut tell = |kind: &'static str, name: String, problem: &str| {
        let problem = problem.to_owned();
        problems.push(Problem { damage: false, kind, name, problem, remedy: REMEDY.to_owned() });
    };
    for owner in forsaken_pins(engine, pins)? {
        let (kind, name) = owner_of_pin(&owner);
        tell(kind, name, "is gone, and the store still keeps its layers");
    }
    for (id, problem) in engine.containers().damaged().map_err(failure)? {
        let folder = engine.containers().folder(&id);
        let remedy = format!("remove its folder `{}`", folder.display());
        problems.push(Problem { damage: true, kind: "container", name: id, problem, remedy });
    }
    let mut tell = |kind: &'static str, name: String, problem: &str| {
        let problem = problem.to_owned();
        problems.push(Problem { damage: false, kind, name, problem, remedy: REMEDY.to_owned() });
    };
    for mount in runtime::stale_mounts(store.root()) {
        tell("mount", mount.display().to_string(), "belongs to no step that runs");
    }
    for mount in engine.volumes_of_store().unused_mounts() {
        tell("mount", mount.display().to_string(), "belongs to no container that runs");
    }
    for cgroup in runtime::stale_cgroups() {
        tell("cgroup", cgroup.display().to_string(), "has no process");
    }
    for (kind, name) in networks(store).leftovers().map_err(system)? {
        tell(kind, name, "belongs to nobody");
    }
    for Difference { kind, name, problem, damage } in networks(store).survey().map_err(system)? {
        let remedy = "`kiln system check --repair` puts it right".to_owned();
        problems.push(Problem { damage, kind, name, problem: problem.to_owned(), remedy });
    }
    Ok(problems)
}

/// Removes what [`of_machine`] finds.
pub(super) fn remove(engine: &Engine, store: &Store) -> Result<(), Failure> {
    let (inventory, _) = store.check_rows(true).map_err(crate::image::Error::from)?;
    for owner in forsaken_pins(engine, &inventory.pins)? {
        store.unpin(&owner).map_err(crate::image::Error::from)?;
    }
    engine.volumes_of_store().unmount_unused();
    engine.volumes_of_store().sweep().map_err(super::volume::told)?;
    runtime::remove_stale(store.root());
    networks(store).remove_leftovers().map_err(system)?;
    networks(store).repair().map_err(system)
}

/// What has a pin, and how people call it.
pub(super) fn owner_of_pin(owner: &str) -> (&'static str, String) {
    let (kind, id) = owner.split_once(':').unwrap_or(("", owner));
    (if kind == "mount" { "mount" } else { "container" }, id.chars().take(12).collect())
}

/// The owners of pins that are no more.
fn forsaken_pins(engine: &Engine, pins: &[String]) -> Result<Vec<String>, Failure> {
    let mut forsaken = Vec::new();
    for owner in pins {
        if engine.containers().is_forsaken(owner).map_err(failure)? {
            forsaken.push(owner.clone());
        }
    }
    Ok(forsaken)
}

fn networks(store: &Store) -> Networks {
    Networks::new(&Path::new(store.root()).join("networks"))
}

fn system(error: crate::network::Error) -> Failure {
    Failure::from_error(FailureKind::System, &error)
}
