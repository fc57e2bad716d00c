//! From the results of a build's vertices to an image and its outputs.

use kiln_cache::{Image, Lease, SnapshotId, Store};

use super::outfile;
use crate::api::{Failure, FailureKind, Output, OutputKind};
use crate::build::graph::{Graph, HistoryPlan, OpSpec};
use crate::build::ops::Maker;
use crate::build::solve::Outcome;
use crate::image::layer::Times;
use crate::image::{self, ArchiveKind, Assembly, Saved};
use crate::oci::{HistoryEntry, Reference};

/// What the history says of kiln's layers: BuildKit's word, which tools look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Makes the image of `graph` from its outcomes; an unchanged one is found, not stored again.
pub(super) fn image(
    graph: &Graph,
    outcomes: &[Outcome],
    store: &Store,
    lease: &Lease,
    epoch: Option<i64>,
) -> image::Result<Image> {
    let mut config = graph.plan.config.clone();
    let base = config.created.as_deref().and_then(seconds);
    let (history, newest) = history(graph, outcomes, base.unwrap_or(0), epoch);
    config.created = Some(rfc3339(epoch.unwrap_or(newest)));
    config.history = history;
    let layers = layers(graph, outcomes, epoch, Times::Kept);
    let assembly = Assembly { config, layers };
    image::assemble(store, lease, assembly)
}

/// The layers of the result, each with the rule for the times of its files; those of the base have `base`.
pub(super) fn layers(
    graph: &Graph,
    outcomes: &[Outcome],
    epoch: Option<i64>,
    base: Times,
) -> Vec<(SnapshotId, Times)> {
    let made = graph.plan.history.iter().filter_map(|line| match line {
        HistoryPlan::Made { vertex: Some(vertex), .. } => Some(match &graph.vertices[*vertex].op {
            OpSpec::Exec(_) => Maker::Program.times(epoch),
            _ => Maker::Kiln.times(epoch),
        }),
        _ => None,
    });
    let made: Vec<Times> = made.collect();
    let chain = &outcomes[graph.target].chain;
    let of_base = std::iter::repeat_n(base, chain.len().saturating_sub(made.len()));
    chain.iter().copied().zip(of_base.chain(made)).collect()
}

/// The history, and the time of the newest result in it.
///
/// An instruction without a layer takes the time of the nearest result below it, so that an
/// unchanged build gives the same bytes.
fn history(graph: &Graph, outcomes: &[Outcome], base: i64, epoch: Option<i64>) -> (Vec<HistoryEntry>, i64) {
    let (mut now, mut newest) = (base, base);
    let mut entries = Vec::with_capacity(graph.plan.history.len());
    for line in &graph.plan.history {
        let (created_by, vertex) = match line {
            HistoryPlan::Kept(entry) => {
                entries.push(entry.clone());
                continue;
            }
            HistoryPlan::Made { created_by, vertex } => (created_by, vertex),
        };
        if let Some(vertex) = vertex {
            now = outcomes[*vertex].created;
            newest = newest.max(now);
        }
        entries.push(HistoryEntry {
            created: Some(rfc3339(epoch.unwrap_or(now))),
            created_by: Some(created_by.clone()),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer: vertex.is_none(),
        });
    }
    (entries, newest)
}

/// Writes one `-o`; `layers` are those of the image, as its files are written.
pub(super) fn export(
    output: &Output,
    image: &Image,
    names: &[Reference],
    (store, lease): (&Store, &Lease),
    layers: &[(SnapshotId, Times)],
) -> Result<(), Failure> {
    let kind = match (output.kind, &output.destination) {
        (OutputKind::Image, _) => return Ok(()),
        (OutputKind::Local, Some(folder)) => return Ok(image::export_dir(store, layers, folder)?),
        (OutputKind::Local, None) => {
            let failure = Failure::new(FailureKind::Invalid, "output type local needs a destination");
            return Err(failure.hint("write it as `-o type=local,dest=DIR`"));
        }
        (OutputKind::Oci, _) => Some(ArchiveKind::Oci),
        (OutputKind::Docker, _) => Some(ArchiveKind::Docker),
        (OutputKind::Tar, _) => None,
    };
    outfile::write(output.destination.as_deref(), |out| match kind {
        Some(kind) => {
            let saved = Saved { image: image.clone(), names: names.to_vec() };
            Ok(image::save(store, lease, &[saved], kind, out)?)
        }
        None => Ok(image::export_tar(store, layers, out)?),
    })
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
