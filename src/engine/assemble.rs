//! From the results of a build's vertices to an image and its outputs.

use kiln_cache::{Image, Lease, Store};

use crate::api::{Failure, FailureKind};
use crate::build::graph::{Graph, HistoryPlan};
use crate::build::solve::Outcome;
use crate::image::{self, Assembly};
use crate::oci::HistoryEntry;

/// What the history says of kiln's layers: BuildKit's word, which tools look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Makes the image of `graph` from its outcomes; an unchanged one is found, not stored again.
pub(super) fn image(
    graph: &Graph,
    outcomes: &[Outcome],
    store: &Store,
    lease: &Lease,
    epoch: Option<i64>,
) -> Result<Image, Failure> {
    let mut config = graph.plan.config.clone();
    let base = config.created.as_deref().and_then(seconds);
    let (history, newest) = history(graph, outcomes, base.unwrap_or(0), epoch);
    config.created = Some(rfc3339(epoch.unwrap_or(newest)));
    config.history = history;
    let assembly = Assembly { config, chain: outcomes[graph.target].chain.clone() };
    image::assemble(store, lease, assembly).map_err(|error| Failure::from_error(FailureKind::System, &error))
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

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
