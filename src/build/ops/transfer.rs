//! COPY, ADD and WORKDIR as vertices: what they write becomes a layer without a mount or a process.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Snapshot, SnapshotId, Staged, Store};

use super::{Machine, Maker, copy, mkdir, now, system};
use crate::api::{Failure, FailureKind};
use crate::blocking;
use crate::build::context;
use crate::build::graph::{Chmod, CopySource, CopySpec, MkdirSpec};
use crate::build::solve::{self, Executed, Key, Op, OpError, OpFuture, Outcome};
use crate::build::tree::{Digests, Known, Merged, Several, Tree, Wanted};

/// Changes when the same definition writes something else than before.
const COPY_VERSION: u32 = 2;

/// The kind of note that names the layer which a copy made last.
const COPIED: &str = "copied";

/// COPY or ADD.
pub(super) struct CopyOp {
    pub(super) spec: Arc<CopySpec>,
    /// Where the files are: paths are of the first place; a [`CopySource::Remote`] says which is its own.
    pub(super) from: Vec<Files>,
    /// The input that says whom the owner means, if it isn't the rootfs (an `OwnerOp`).
    pub(super) owner: Option<usize>,
    pub(super) machine: Arc<Machine>,
    /// What the look-up read of layers, so that the execution lets the kernel copy.
    pub(super) digests: Arc<Digests>,
    /// What was found of these inputs' content: a look-up under the key's lock walks no context again.
    pub(super) looked: Mutex<Option<(Vec<kiln_cache::Digest>, kiln_cache::Digest)>>,
    /// Of all copies of the build together.
    pub(super) last_selected: Arc<LastSelected>,
}

/// What the copy that was looked up last has selected, so that its execution, which mostly follows at once, walks
/// nothing again. Only one is kept: many copies may read the same large tree.
#[derive(Default)]
pub(super) struct LastSelected(Mutex<Option<(Arc<CopySpec>, Instant, copy::Selected)>>);

impl LastSelected {
    /// Beyond this, the files have had time to become others.
    const FRESH: Duration = Duration::from_secs(1);

    fn keep(&self, spec: &Arc<CopySpec>, at: Instant, selected: copy::Selected) {
        *self.lock() = Some((Arc::clone(spec), at, selected));
    }

    fn take(&self, spec: &Arc<CopySpec>) -> Option<copy::Selected> {
        let (_, at, selected) = self.lock().take_if(|(of, ..)| Arc::ptr_eq(of, spec))?;
        (at.elapsed() < Self::FRESH).then_some(selected)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Arc<CopySpec>, Instant, copy::Selected)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that files are copied from.
#[derive(Clone)]
pub(super) enum Files {
    /// One of the build's contexts.
    Context(Arc<context::Context>),
    /// The result of this input.
    Input(usize),
}

impl Files {
    /// The layers of a result; `None` for a context.
    fn layers(&self, inputs: &[Outcome], store: &Store) -> Option<Vec<PathBuf>> {
        match self {
            Self::Context(_) => None,
            Self::Input(input) => Some(folders(&inputs[*input].chain, store)),
        }
    }
}

/// Hands what is in `places` to `work` as one tree.
fn with_tree<T>(
    places: &[(Files, Option<Vec<PathBuf>>)],
    digests: &Digests,
    work: impl FnOnce(&dyn Tree) -> copy::Result<T>,
) -> copy::Result<T> {
    let open = |(_, layers): &(Files, Option<Vec<PathBuf>>)| layers.as_deref().map(Merged::open).transpose();
    let merged: Vec<Option<Merged>> = places.iter().map(open).collect::<Result<_, _>>()?;
    let merged: Vec<Option<Known<'_>>> =
        merged.iter().map(|merged| merged.as_ref().map(|tree| Known::new(tree, digests))).collect();
    let mut trees: Vec<&dyn Tree> = Vec::with_capacity(places.len());
    for ((files, _), merged) in places.iter().zip(&merged) {
        match (files, merged) {
            (Files::Context(context), _) => trees.push(context.as_ref()),
            (_, Some(merged)) => trees.push(merged),
            (_, None) => unreachable!("an input has layers"),
        }
    }
    let others = trees.iter().copied().enumerate().collect();
    work(&Several::new(trees.first().copied(), others))
}

impl CopyOp {
    /// The definition and the rootfs; what is read comes on top.
    fn definition(&self, kind: &str, inputs: &[Outcome]) -> KeyBuilder {
        self.flags(KeyBuilder::new(kind, COPY_VERSION).field("rootfs", inputs[0].id.to_string()), inputs)
    }

    /// The definition alone.
    fn flags(&self, key: KeyBuilder, inputs: &[Outcome]) -> KeyBuilder {
        let spec = &self.spec;
        let mut key = key.field("destination", &spec.destination);
        // A rootfs that isn't the copy's own has a say in the owner's numbers only.
        key = match self.owner {
            Some(owner) => key.field("owner", inputs[owner].id.to_string()),
            None => key.optional("chown", spec.chown.as_ref()),
        };
        key = key
            .optional("chmod", spec.chmod.as_ref().map(chmod))
            .field("reset owner", spec.reset_owner.to_string())
            .field("unpack", spec.unpack.to_string())
            .list("exclude", &spec.excludes);
        if spec.parents {
            key = key.field("parents", "true");
        }
        for source in &spec.sources {
            key = match source {
                CopySource::Path(path) => key.field("source", path),
                CopySource::Inline { name, body } => key.field("inline", name).hidden("body", body),
                CopySource::Remote { read, name, unpack, .. } => key
                    .field("remote", read.to_string())
                    .optional("name", name.as_ref())
                    .field("unpack remote", unpack.to_string()),
            };
        }
        key
    }

    /// The places with the layers of those that are results.
    fn places(&self, inputs: &[Outcome], store: &Store) -> Vec<(Files, Option<Vec<PathBuf>>)> {
        self.from.iter().map(|files| (files.clone(), files.layers(inputs, store))).collect()
    }

    /// Names the executions of this copy, whatever it reads and stands on: the key of the note that says which
    /// layer the last one made.
    fn history(&self, inputs: &[Outcome]) -> String {
        let from = self.from.iter().map(|files| match files {
            Files::Context(context) => {
                context.lasting_dir().map_or(&[][..], |dir| dir.as_os_str().as_bytes())
            }
            Files::Input(_) => b"input",
        });
        self.flags(KeyBuilder::new("copy history", COPY_VERSION), inputs).list("from", from).digest().hex()
    }

    fn content(&self, inputs: &[Outcome], content: kiln_cache::Digest) -> Key {
        let key = self.definition("copy", inputs).field("content", content.to_string());
        Key { parts: key.parts(), digest: key.digest() }
    }
}

impl Op for CopyOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let from = self.from.iter().map(|files| match files {
            Files::Context(_) => "context".to_owned(),
            Files::Input(input) => inputs[*input].id.to_string(),
        });
        let key = self.definition("copy cheap", inputs).list("from", from);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn family(&self, inputs: &[Outcome]) -> kiln_cache::Digest {
        self.definition("copy family", inputs).digest()
    }

    fn is_closed(&self) -> bool {
        self.from.iter().all(|files| matches!(files, Files::Input(_)))
    }

    fn reads(&self, input: usize) -> bool {
        self.from.iter().any(|files| matches!(files, Files::Input(other) if *other == input))
    }

    fn content_key(&self, inputs: &[Outcome], store: &Store) -> Result<Option<Key>, OpError> {
        let ids: Vec<_> = inputs.iter().map(|input| input.id).collect();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = match &*looked {
            Some((of, digest)) if *of == ids => *digest,
            _ => {
                let places = self.places(inputs, store);
                let look_up = |tree: &dyn Tree| {
                    let started = Instant::now();
                    let selected = copy::select(&self.spec, tree)?;
                    let digest = copy::selected_digest(&self.spec, tree, &selected)?;
                    // What is known of a layer's file names its place in the stack, which may be merged meanwhile.
                    if places.iter().all(|(_, layers)| layers.is_none()) {
                        self.last_selected.keep(&self.spec, started, selected);
                    }
                    Ok(digest)
                };
                let digest = with_tree(&places, &self.digests, look_up).map_err(|error| failure(&error))?;
                *looked = Some((ids, digest));
                digest
            }
        };
        Ok(Some(self.content(inputs, digest)))
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a solve::Context) -> OpFuture<'a> {
        let (spec, places) = (Arc::clone(&self.spec), self.places(inputs, &context.store));
        let folders_of = |input: usize| folders(&inputs[input].chain, &context.store);
        let (rootfs, owners) = (folders_of(0), folders_of(self.owner.unwrap_or(0)));
        let (digests, last_selected) = (Arc::clone(&self.digests), Arc::clone(&self.last_selected));
        let (history, stop, anew) = (self.history(inputs), context.stop.clone(), context.anew);
        let work = move |staged: &Staged| {
            let previous = match anew {
                true => None,
                false => previous(&history, staged).map_err(|error| system(&error))?,
            };
            let (shared_with, previous) = previous.unzip();
            let copy = |source: &dyn Tree| {
                let layer = copy::Layer {
                    folder: &staged.fs(),
                    chain: &rootfs,
                    previous,
                    list: &mut |entries| staged.write_files(entries),
                };
                let is_wanted = || !stop.is_given();
                let source = Wanted::new(source, &is_wanted);
                let selected = match last_selected.take(&spec) {
                    Some(selected) => selected,
                    None => copy::select(&spec, &source)?,
                };
                copy::execute_as(copy::owner(&spec, &owners)?, &spec, &source, &selected, layer)
            };
            let written = with_tree(&places, &digests, copy);
            digests.clear();
            let written = written.map_err(|error| failure(&error))?;
            // What comes of it if the commit fails: nothing is found by this name the next time.
            let noted = staged.store().put_note(COPIED, &history, &staged.id().to_string());
            noted.map_err(|error| system(&error))?;
            let copy::Written { digest, bytes, shared_bytes, .. } = written;
            Ok((digest, Snapshot { bytes, shared_bytes, shared_with, ..Snapshot::default() }))
        };
        Box::pin(async move {
            let (digest, snapshot, created) = layer(context, work).await?;
            let key = self.content(inputs, digest);
            Ok(finish(key, &inputs[0], snapshot, created, &self.machine, context))
        })
    }
}

/// Finds the layer that the copy `history` made before, if it is there still, and holds it.
fn previous(history: &str, staged: &Staged) -> kiln_cache::Result<Option<(SnapshotId, copy::Previous)>> {
    let store = staged.store();
    let Some(id) = store.note(COPIED, history)?.and_then(|id| id.parse::<SnapshotId>().ok()) else {
        return Ok(None);
    };
    if !staged.lease().hold(&[id])? {
        return Ok(None);
    }
    let opened = store.file_list(&id)?.and_then(|list| copy::Previous::open(&store.snapshot_dir(&id), list));
    Ok(opened.map(|previous| (id, previous)))
}

fn chmod(chmod: &Chmod) -> String {
    match chmod {
        Chmod::Mode(mode) => format!("{mode:o}"),
        Chmod::Changes(changes) => format!("{changes:?}"),
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
            Ok(((), Snapshot::default()))
        };
        Box::pin(async move {
            let ((), snapshot, created) = layer(context, work).await?;
            let key = self.cheap_key(inputs);
            Ok(finish(key, &inputs[0], snapshot, created, &self.machine, context))
        })
    }
}

/// Fills a fresh layer by `work`, which also tells what is known of it, and seals it.
pub(super) async fn layer<T: Send + 'static>(
    context: &solve::Context,
    work: impl FnOnce(&Staged) -> Result<(T, Snapshot), OpError> + Send + 'static,
) -> Result<(T, SnapshotId, i64), OpError> {
    let (store, lease) = (context.store.clone(), context.lease.clone());
    blocking::run("write layer", move || {
        let staged = store.stage(&lease).map_err(|error| system(&error))?;
        let (value, snapshot) = work(&staged)?;
        let created = now();
        let snapshot = staged.commit(Snapshot { created, ..snapshot }).map_err(|error| system(&error))?;
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
    machine.diff_ids.start(&context.store, &snapshot, Maker::Kiln);
    let mut chain = rootfs.chain.clone();
    chain.push(snapshot);
    Executed { outcome: Outcome { id: key.digest, chain, created }, key }
}

/// The folders that show `chain`, base first.
pub(super) fn folders(chain: &[SnapshotId], store: &Store) -> Vec<PathBuf> {
    store.stack(chain)
}

pub(super) fn failure(error: &copy::Error) -> OpError {
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
