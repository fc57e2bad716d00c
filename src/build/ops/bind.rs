//! From the graph's data to ops that can be keyed and executed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use kiln_cache::{Digest, Image, Label, RecordKind, Store};

use super::exec::Exec;
use super::link::{MergeOp, OwnerOp, WayOp};
use super::remote::RemoteOp;
use super::source::{Place, Source};
use super::transfer::{CopyOp, Files, MkdirOp};
use super::{Machine, system};
use crate::api::{Failure, FailureKind, RemoteSource, StepId, without_passwords};
use crate::build::context::Context;
use crate::build::graph::{Graph, Input, OpSpec, SourceSpec, Vertex};
use crate::build::solve::{Node, Op, OpError};

/// Gives every vertex of `graph` its op; steps are numbered from `first` in the graph's order.
///
/// `contexts` are those that the graph's `ContextId`s count; `None` for those that it doesn't read.
pub(crate) fn bind(
    graph: &Graph,
    platform: &str,
    store: &Store,
    contexts: &[Option<Arc<Context>>],
    machine: &Arc<Machine>,
    first: StepId,
) -> Result<Vec<Node>, OpError> {
    let mut nodes = Vec::with_capacity(graph.vertices.len());
    let mut images = HashMap::new();
    let last_selected = Arc::default();
    for (index, vertex) in graph.vertices.iter().enumerate() {
        let op: Arc<dyn Op> = match &vertex.op {
            OpSpec::Source(spec) => Arc::new(source(spec, machine, store, &mut images)?),
            OpSpec::Scratch => {
                Arc::new(Source { spec: None, place: Place::Here { chain: Vec::new(), created: 0 } })
            }
            OpSpec::Exec(spec) => Arc::new(Exec {
                spec: Arc::new(spec.clone()),
                platform: platform.to_owned(),
                machine: Arc::clone(machine),
                name: vertex.name.clone(),
                named_by_content: vertex.reads.iter().map(|read| named_by_content(read, graph)).collect(),
                store: store.clone(),
            }),
            OpSpec::Copy(spec) => Arc::new(CopyOp {
                spec: Arc::new(spec.clone()),
                from: files(vertex, graph, contexts),
                owner: owner_of(vertex, graph),
                machine: Arc::clone(machine),
                digests: Arc::default(),
                looked: Mutex::default(),
                last_selected: Arc::clone(&last_selected),
            }),
            OpSpec::Owner(text) => Arc::new(OwnerOp { text: text.clone() }),
            OpSpec::Way(path) => Arc::new(WayOp { path: path.clone() }),
            OpSpec::Merge => Arc::new(MergeOp),
            OpSpec::Remote(source) => {
                Arc::new(RemoteOp { source: source.clone(), machine: Arc::clone(machine) })
            }
            OpSpec::Mkdir(spec) => Arc::new(MkdirOp { spec: spec.clone(), machine: Arc::clone(machine) }),
        };
        let step = first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
        let step = vertex.op.is_shown().then_some(step);
        nodes.push(Node {
            op,
            inputs: vertex.inputs().collect(),
            step,
            label: label(vertex),
            anew: graph.anew.contains(&index),
        });
    }
    Ok(nodes)
}

/// What a listing of the cache tells of a vertex' result.
fn label(vertex: &Vertex) -> Label {
    let kind = match &vertex.op {
        OpSpec::Remote(RemoteSource::Git(_)) => RecordKind::GitCheckout,
        // Files of a context for a step to read, which no instruction of the user's copies.
        OpSpec::Copy(_) if vertex.name.starts_with("[internal]") => RecordKind::LocalSource,
        OpSpec::Owner(_) | OpSpec::Way(_) => RecordKind::Internal,
        _ => RecordKind::Regular,
    };
    // It is kept in the store: a password isn't.
    Label { kind, description: without_passwords(&vertex.name) }
}

/// Tells whether the result id of what is read follows from its bytes alone: a part of a context, in a layer of
/// its own.
fn named_by_content(read: &Input, graph: &Graph) -> bool {
    let Input::Vertex(vertex) = read else { return false };
    let vertex = &graph.vertices[*vertex];
    let on_nothing = vertex.rootfs.is_some_and(|below| matches!(graph.vertices[below].op, OpSpec::Scratch));
    matches!(vertex.op, OpSpec::Copy(_)) && on_nothing
}

/// Which of a copy's inputs says whom it gives its files to, if that isn't its rootfs: the last one.
fn owner_of(vertex: &Vertex, graph: &Graph) -> Option<usize> {
    let last = vertex.reads.last()?;
    is_owner(last, graph).then(|| vertex.inputs().count() - 1)
}

fn is_owner(read: &Input, graph: &Graph) -> bool {
    matches!(read, Input::Vertex(vertex) if matches!(graph.vertices[*vertex].op, OpSpec::Owner(_)))
}

/// Where a copy finds its files: the places that it reads, in their order.
fn files(vertex: &Vertex, graph: &Graph, contexts: &[Option<Arc<Context>>]) -> Vec<Files> {
    let mut input = usize::from(vertex.rootfs.is_some());
    let mut files = Vec::with_capacity(vertex.reads.len());
    for read in vertex.reads.iter().filter(|read| !is_owner(read, graph)) {
        files.push(match read {
            Input::Context(id) => {
                let context = contexts[id.0].as_ref().expect("a context that the graph reads was opened");
                Files::Context(Arc::clone(context))
            }
            Input::Vertex(_) => {
                input += 1;
                Files::Input(input - 1)
            }
        });
    }
    files
}

/// Many stages begin with the same image: `images` has those that were asked for.
fn source(
    spec: &SourceSpec,
    machine: &Machine,
    store: &Store,
    images: &mut HashMap<Digest, Option<Image>>,
) -> Result<Source, OpError> {
    let image = match images.entry(spec.image) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(store.image(&spec.image).map_err(|error| system(&error))?),
    };
    let place = match image {
        Some(image) => Place::Here { chain: image.chain.clone(), created: image.created },
        None => Place::There(machine.bases.get(&spec.image).ok_or_else(|| {
            let message = format!("image `{}` was removed meanwhile", spec.name);
            Box::new(Failure::new(FailureKind::NotFound, message).hint("run the build again"))
        })?),
    };
    Ok(Source { spec: Some(spec.clone()), place })
}
