//! FROM: an image of the store or of a registry, or nothing.
//!
//! An image that isn't in the store has a result id all the same: its config tells the chain ID. So what was built on
//! it is found, and its layers are brought only when something runs on them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Digest, SnapshotId};

use crate::api::{Failure, FailureKind};
use crate::build::graph::SourceSpec;
use crate::build::solve::{Context, Executed, Key, Op, OpError, OpFuture, Outcome};
use crate::image::{Remote, Sink};

/// Images at their registries, by their ids: those that this build may have to bring.
#[derive(Debug, Default)]
pub(crate) struct Bases(Mutex<HashMap<Digest, Arc<Remote>>>);

impl Bases {
    /// Keeps an image for the steps that may need it.
    pub(crate) fn add(&self, remote: Remote) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(remote.id(), Arc::new(remote));
    }

    pub(super) fn get(&self, image: &Digest) -> Option<Arc<Remote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned()
    }
}

/// The start of a stage.
pub(super) struct Source {
    /// The image; `None` for `scratch`.
    pub(super) spec: Option<SourceSpec>,
    pub(super) place: Place,
}

/// Where the layers of a [`Source`] are.
pub(super) enum Place {
    /// In the store.
    Here {
        /// Base first.
        chain: Vec<SnapshotId>,
        /// When the image was made, unix seconds.
        created: i64,
    },
    /// At a registry.
    There(Arc<Remote>),
}

impl Source {
    fn outcome(&self, chain: Vec<SnapshotId>, created: i64) -> Outcome {
        Outcome { id: self.key().digest, chain, created }
    }

    fn key(&self) -> Key {
        let key = KeyBuilder::new("source", 1);
        let key = match &self.spec {
            None => key.field("image", "scratch"),
            Some(spec) => key
                .field("platform", &spec.platform)
                .field("layers", spec.chain_id.map(|chain| chain.to_string()).unwrap_or_default()),
        };
        Key { parts: key.parts(), digest: key.digest() }
    }

    async fn bring(&self, remote: &Remote, context: &Context) -> Result<Executed, OpError> {
        let sink = Sink { step: context.step, events: context.events.clone() };
        let brought = context.stop.unless(remote.bring(&context.store, &context.lease, &sink)).await;
        let pulled = match brought {
            Some(brought) => brought.map_err(|error| Box::new(Failure::from(error)))?,
            None => return Err(Box::new(Failure::new(FailureKind::Cancelled, "stopped"))),
        };
        Ok(Executed { outcome: self.outcome(pulled.image.chain, remote.created()), key: self.key() })
    }
}

impl Op for Source {
    fn known(&self, _inputs: &[Outcome]) -> Option<Outcome> {
        match &self.place {
            Place::Here { chain, created } => Some(self.outcome(chain.clone(), *created)),
            Place::There(_) => None,
        }
    }

    fn promised(&self, _inputs: &[Outcome]) -> Option<Outcome> {
        match &self.place {
            Place::Here { .. } => None,
            Place::There(remote) => Some(self.outcome(Vec::new(), remote.created())),
        }
    }

    fn cheap_key(&self, _inputs: &[Outcome]) -> Key {
        self.key()
    }

    fn execute<'a>(&'a self, _inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(async move {
            match &self.place {
                Place::There(remote) => self.bring(remote, context).await,
                Place::Here { chain, created } => {
                    Ok(Executed { outcome: self.outcome(chain.clone(), *created), key: self.key() })
                }
            }
        })
    }
}
