//! COPY, ADD and WORKDIR as vertices: what they write becomes a layer without a mount or a process.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Snapshot, SnapshotId, Staged, Store};

use super::{Machine, copy, mkdir, now, system};
use crate::api::{Failure, FailureKind};
use crate::blocking;
use crate::build::context;
use crate::build::graph::{CopySource, CopySpec, MkdirSpec};
use crate::build::solve::{self, Executed, Key, Op, OpError, OpFuture, Outcome};
use crate::build::tree::{Merged, Tree};

/// Changes when the same definition writes something else than before.
const COPY_VERSION: u32 = 2;

/// COPY or ADD.
pub(super) struct CopyOp {
    pub(super) spec: Arc<CopySpec>,
    /// The build context; `None` when the files come from the second input.
    pub(super) context: Option<Arc<context::Context>>,
    pub(super) machine: Arc<Machine>,
}

impl CopyOp {
    /// The definition and the rootfs; what is read comes on top.
    fn definition(&self, kind: &str, inputs: &[Outcome]) -> KeyBuilder {
        let spec = &self.spec;
        let mut key = KeyBuilder::new(kind, COPY_VERSION)
            .field("rootfs", inputs[0].id.to_string())
            .field("destination", &spec.destination)
            .optional("chown", spec.chown.as_ref())
            .optional("chmod", spec.chmod.map(|mode| format!("{mode:o}")))
            .field("reset owner", spec.reset_owner.to_string())
            .field("unpack", spec.unpack.to_string())
            .list("exclude", &spec.excludes);
        for source in &spec.sources {
            key = match source {
                CopySource::Path(path) => key.field("source", path),
                CopySource::Inline { name, body } => key.field("inline", name).field("body", body),
            };
        }
        key
    }

    fn content(&self, inputs: &[Outcome], content: kiln_cache::Digest) -> Key {
        let key = self.definition("copy", inputs).field("content", content.to_string());
        Key { parts: key.parts(), digest: key.digest() }
    }
}

impl Op for CopyOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let from = inputs.get(1).map_or_else(|| "context".to_owned(), |from| from.id.to_string());
        let key = self.definition("copy cheap", inputs).field("from", from);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn is_closed(&self) -> bool {
        self.context.is_none()
    }

    fn content_key(&self, inputs: &[Outcome], store: &Store) -> Result<Option<Key>, OpError> {
        let digest = match &self.context {
            Some(context) => copy::content_digest(&self.spec, context.as_ref()),
            None => Merged::open(&folders(&inputs[1].chain, store))
                .map_err(copy::Error::from)
                .and_then(|source| copy::content_digest(&self.spec, &source)),
        };
        let digest = digest.map_err(|error| failure(&error))?;
        Ok(Some(self.content(inputs, digest)))
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a solve::Context) -> OpFuture<'a> {
        let (spec, source) = (Arc::clone(&self.spec), self.context.clone());
        let from = inputs.get(1).map(|from| folders(&from.chain, &context.store));
        let rootfs = folders(&inputs[0].chain, &context.store);
        let work = move |staged: &Staged| {
            let written = match (source, from) {
                (Some(source), _) => {
                    copy::execute(&spec, source.as_ref() as &dyn Tree, &rootfs, &staged.fs())
                }
                (None, from) => Merged::open(&from.unwrap_or_default())
                    .map_err(copy::Error::from)
                    .and_then(|source| copy::execute(&spec, &source, &rootfs, &staged.fs())),
            };
            let written = written.map_err(|error| failure(&error))?;
            Ok((written.digest, written.bytes))
        };
        Box::pin(async move {
            let (digest, snapshot, created) = layer(context, work).await?;
            let key = self.content(inputs, digest);
            Ok(finish(key, &inputs[0], snapshot, created, &self.machine, context))
        })
    }
}

/// WORKDIR.
pub(super) struct MkdirOp {
    pub(super) spec: MkdirSpec,
    pub(super) machine: Arc<Machine>,
}

impl Op for MkdirOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let key = KeyBuilder::new("mkdir", 1)
            .field("rootfs", inputs[0].id.to_string())
            .field("path", &self.spec.path)
            .field("owner", &self.spec.user);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a solve::Context) -> OpFuture<'a> {
        let spec = self.spec.clone();
        let rootfs = folders(&inputs[0].chain, &context.store);
        let work = move |staged: &Staged| {
            let made = mkdir::execute(&spec, &rootfs, &staged.fs())
                .map_err(|error| failure(&copy::Error::from(error)))?;
            if !made {
                super::inherit_root(rootfs.last().map(PathBuf::as_path), &staged.fs())
                    .map_err(|error| system(&error))?;
            }
            Ok(((), 0))
        };
        Box::pin(async move {
            let ((), snapshot, created) = layer(context, work).await?;
            let key = self.cheap_key(inputs);
            Ok(finish(key, &inputs[0], snapshot, created, &self.machine, context))
        })
    }
}

/// Fills a fresh layer by `work`, which also tells its bytes, and seals it.
async fn layer<T: Send + 'static>(
    context: &solve::Context,
    work: impl FnOnce(&Staged) -> Result<(T, u64), OpError> + Send + 'static,
) -> Result<(T, SnapshotId, i64), OpError> {
    let (store, lease) = (context.store.clone(), context.lease.clone());
    blocking::run("write layer", move || {
        let staged = store.stage(&lease).map_err(|error| system(&error))?;
        let (value, bytes) = work(&staged)?;
        let created = now();
        let snapshot =
            staged.commit(Snapshot { diff: None, bytes, created }).map_err(|error| system(&error))?;
        Ok((value, snapshot, created))
    })
    .await
}

/// The result id of an op whose bytes follow from its key is that key.
fn finish(
    key: Key,
    rootfs: &Outcome,
    snapshot: SnapshotId,
    created: i64,
    machine: &Machine,
    context: &solve::Context,
) -> Executed {
    machine.diff_ids.start(&context.store, &snapshot);
    let mut chain = rootfs.chain.clone();
    chain.push(snapshot);
    Executed { outcome: Outcome { id: key.digest, chain, created }, key }
}

fn folders(chain: &[SnapshotId], store: &Store) -> Vec<PathBuf> {
    chain.iter().map(|snapshot| store.snapshot_dir(snapshot)).collect()
}

fn failure(error: &copy::Error) -> OpError {
    let kind = match error {
        copy::Error::NotFound { .. } => FailureKind::NotFound,
        copy::Error::Archive { .. } => FailureKind::Corrupt,
        _ => FailureKind::Invalid,
    };
    let failure = Failure::from_error(kind, error);
    Box::new(match error {
        copy::Error::NotFound { ignored: true, .. } => {
            failure.hint("the ignore file hides it: see .dockerignore")
        }
        copy::Error::NotFound { ignored: false, .. } => {
            failure.hint("paths are relative to the build context (or to the root of --from)")
        }
        _ => failure,
    })
}
