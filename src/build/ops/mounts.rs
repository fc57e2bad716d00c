//! The mounts of a RUN step: from what the graph says to what the runtime mounts.
//!
//! 1. [`caches`] tells which caches the solver has to lock before the step gets its slot.
//! 2. [`contents`] gives the digests of the files that the step is shown, for its content key.
//! 3. [`prepare`] makes what the step will see; it goes when the step has ended.
//!
//! Files are the layers of a vertex, never copied; what a step writes to them goes to a folder that is thrown
//! away. Secrets exist in memory only.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_cache::key::KeyBuilder;
use kiln_cache::{CacheMountRequest, Digest, Mounts, Scratch, Store};

use super::agent::Door;
use super::lent::Lent;
use super::transfer::{failure, folders};
use super::{copy, system};
use crate::api::{Failure, FailureKind};
use crate::build::graph::{CopySpec, FileOwner, MountKind, MountSpec};
use crate::build::solve::{Context, OpError, Outcome};
use crate::build::tree::{Entry, Merged, clean, resolve};
use crate::redacted::Redacted;
use crate::runtime::{How, Mount};

/// The kind of note that keeps the digest of a part of a result: a result never changes, so it is read once.
const CONTENT_NOTE: &str = "mount-content";

/// What a step's mounts are made of.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<Mount>,
    /// Locks that have to live as long as the step's last process.
    pub(super) keep: Vec<OwnedFd>,
    /// Variables with secrets.
    pub(super) secret_env: Vec<(String, Redacted)>,
    /// Sockets of ssh agents, to be served while the step runs.
    pub(super) doors: Vec<Door>,
    /// Folders that are removed when this is dropped: writes to files, sockets.
    folders: Vec<Scratch>,
}

/// Says what a mount is, for the step's key: all but secrets' bytes, and names and sharing of caches.
pub(super) fn definition(mount: &MountSpec) -> String {
    let target = mount.target.as_deref().unwrap_or_default();
    let of = |owner: &FileOwner| format!("{:o} {}:{}", owner.mode, owner.uid, owner.gid);
    match &mount.kind {
        MountKind::Files { source, readonly, .. } => format!("files {target:?} {source:?} {readonly}"),
        MountKind::Cache { from, readonly, .. } => {
            format!("cache {target:?} {:?} {readonly}", from.as_ref().map(|(_, source)| source))
        }
        MountKind::Tmpfs { size, readonly } => format!("tmpfs {target:?} {size:?} {readonly}"),
        MountKind::Secret { id, env, owner, .. } => format!("secret {target:?} {id:?} {env:?} {}", of(owner)),
        MountKind::Ssh { id, owner, .. } => format!("ssh {target:?} {id:?} {}", of(owner)),
    }
}

/// Which of a step's inputs a mount reads, and the path in it.
pub(super) fn read_of(mount: &MountSpec) -> Option<(usize, &str)> {
    match &mount.kind {
        MountKind::Files { read, source, .. } => Some((*read, source)),
        MountKind::Cache { from: Some((read, source)), .. } => Some((*read, source)),
        _ => None,
    }
}

/// Returns the caches of `mounts`; `reads` are the results that they read.
pub(super) fn caches(mounts: &[MountSpec], reads: &[Outcome]) -> Vec<CacheMountRequest> {
    mounts.iter().filter_map(|mount| cache(mount, reads)).collect()
}

/// A cache is named by its id and by what a new one is like, as in BuildKit: two steps that want it to belong to
/// different users, or to begin with other files, don't share it.
fn cache(mount: &MountSpec, reads: &[Outcome]) -> Option<CacheMountRequest> {
    let MountKind::Cache { id, from, sharing, owner, .. } = &mount.kind else { return None };
    let begins = from.as_ref().map(|(read, source)| format!("{} {source}", reads[*read].id));
    let owner = owner.map(|owner| format!("{:o} {} {}", owner.mode, owner.uid, owner.gid));
    let key =
        KeyBuilder::new("cache mount", 1).field("id", id).optional("from", begins).optional("owner", owner);
    Some(CacheMountRequest { id: key.digest(), name: id.clone(), sharing: *sharing })
}

/// Returns a digest of what `source` of a result shows: attributes and bytes, no times. Blocking.
pub(super) fn content(result: &Outcome, source: &str, store: &Store) -> Result<Digest, OpError> {
    let name =
        KeyBuilder::new("mount content", 1).field("result", result.id.to_string()).field("source", source);
    let name = name.digest().hex().to_string();
    if let Some(known) = store.note(CONTENT_NOTE, &name).map_err(|error| system(&error))?
        && let Ok(digest) = known.parse()
    {
        return Ok(digest);
    }
    let tree = open(result, store)?;
    let top = find(&tree, source)?;
    let bytes = copy::content_digest(&CopySpec::of(source, "/"), &tree).map_err(|error| failure(&error))?;
    let attributes = format!("{:?} {:o} {}:{}", top.kind, top.mode, top.uid, top.gid);
    let digest =
        KeyBuilder::new("mounted", 1).field("top", attributes).field("content", bytes.to_string()).digest();
    store.put_note(CONTENT_NOTE, &name, &digest.to_string()).map_err(|error| system(&error))?;
    Ok(digest)
}

/// Makes what the step will see. Blocking.
pub(super) fn prepare(
    mounts: &[MountSpec],
    reads: &[Outcome],
    lent: &Lent,
    context: &Context,
) -> Result<Prepared, OpError> {
    let mut prepared = Prepared::default();
    for mount in mounts {
        match &mount.kind {
            MountKind::Secret { .. } => prepared.secret(mount, lent)?,
            MountKind::Ssh { .. } => prepared.agent(mount, lent, &context.store)?,
            _ => prepared.add(mount, reads, context)?,
        }
    }
    for cache in context.cache_mounts.iter() {
        prepared.keep.push(cache.keeper().map_err(|error| system(&error))?);
    }
    if prepared.keep.len() > crate::runtime::MOST_KEPT {
        let message = format!("a step can have {} caches at most", crate::runtime::MOST_KEPT);
        return Err(Box::new(Failure::new(FailureKind::Invalid, message)));
    }
    Ok(prepared)
}

impl Prepared {
    fn add(&mut self, mount: &MountSpec, reads: &[Outcome], context: &Context) -> Result<(), OpError> {
        let target = mount.target.clone().unwrap_or_default();
        match &mount.kind {
            MountKind::Files { read, source, readonly } => {
                let result = &reads[*read];
                let is_folder = find(&open(result, &context.store)?, source)?.is_dir();
                let layers = match readonly {
                    true => context.store.overlay(&result.chain, None),
                    false => self.writable(result, &context.store)?,
                };
                let (source, readonly) = (source.clone(), *readonly);
                self.mounts.push(Mount::Layers { layers, source, is_folder, target, readonly });
            }
            MountKind::Cache { readonly, .. } => {
                let source = cache_folder(mount, reads, context)?;
                self.mounts.push(Mount::Bind { source, target, readonly: *readonly, how: How::default() });
            }
            MountKind::Tmpfs { size, readonly } => {
                let (size, readonly) = (*size, *readonly);
                self.mounts.push(Mount::Tmpfs {
                    target,
                    size,
                    mode: None,
                    exec: true,
                    suid: false,
                    readonly,
                    options: Vec::new(),
                });
            }
            MountKind::Secret { .. } | MountKind::Ssh { .. } => {}
        }
        Ok(())
    }

    /// A file in memory, a variable, or both.
    fn secret(&mut self, mount: &MountSpec, lent: &Lent) -> Result<(), OpError> {
        let MountKind::Secret { id, env, required, owner } = &mount.kind else { return Ok(()) };
        let Some(value) = lent.secret(id) else {
            return if *required { Err(missing_secret(id, lent)) } else { Ok(()) };
        };
        self.secret_env.extend(env.iter().map(|name| (name.clone(), value.clone())));
        self.mounts.extend(mount.target.iter().map(|target| Mount::File {
            target: target.clone(),
            content: value.clone(),
            mode: owner.mode,
            owner: (owner.uid, owner.gid),
            readonly: true,
        }));
        Ok(())
    }

    /// A socket of the step's own in front of the agent.
    fn agent(&mut self, mount: &MountSpec, lent: &Lent, store: &Store) -> Result<(), OpError> {
        let MountKind::Ssh { id, required, owner } = &mount.kind else { return Ok(()) };
        let Some(agent) = lent.agent(id) else {
            return if *required { Err(missing_agent(id)) } else { Ok(()) };
        };
        let scratch = store.scratch_folder().map_err(|error| system(&error))?;
        let door = Door::open(scratch.path(), "agent", owner, agent).map_err(|error| system(&error))?;
        self.doors.push(door);
        let source = scratch.path().join("agent");
        self.folders.push(scratch);
        let target = mount.target.clone().unwrap_or_default();
        self.mounts.push(Mount::Bind { source, target, readonly: false, how: How::default() });
        Ok(())
    }

    /// The layers of `result` with a folder on top that is thrown away.
    fn writable(&mut self, result: &Outcome, store: &Store) -> Result<Mounts, OpError> {
        let scratch = store.scratch_folder().map_err(|error| system(&error))?;
        let (upper, work) = (scratch.path().join("fs"), scratch.path().join("work"));
        self.folders.push(scratch);
        for folder in [&upper, &work] {
            std::fs::create_dir(folder).map_err(|error| system(&error))?;
        }
        let below = result.chain.last().map(|snapshot| store.snapshot_dir(snapshot));
        super::inherit_root(below.as_deref(), &upper).map_err(|error| system(&error))?;
        Ok(Mounts { upper: Some(upper), work: Some(work), ..store.overlay(&result.chain, None) })
    }
}

fn missing_secret(id: &str, lent: &Lent) -> OpError {
    let message = format!("the step needs the secret `{id}`, which was not given");
    let failure = Failure::new(FailureKind::Invalid, message)
        .hint(format!("build with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"));
    let known: Vec<String> = lent.secret_names().map(|name| format!("`{name}`")).collect();
    Box::new(match known.is_empty() {
        true => failure,
        false => failure.hint(format!("given are {}", known.join(", "))),
    })
}

fn missing_agent(id: &str) -> OpError {
    let message = format!("the step needs the ssh agent `{id}`, which was not given");
    Box::new(Failure::new(FailureKind::Invalid, message).hint(format!("build with `--ssh {id}`")))
}

/// The folder of a cache that this step holds, filled first if it is new.
fn cache_folder(mount: &MountSpec, reads: &[Outcome], context: &Context) -> Result<PathBuf, OpError> {
    let asked = cache(mount, reads).expect("the mount is a cache");
    let held = context.cache_mounts.iter().find(|held| *held.id() == asked.id);
    let held = held.expect("the solver locked every cache that was asked for");
    held.folder(|new| fill(mount, reads, &context.store, new)).map_err(|Filling(reason)| reason)
}

/// Why a new cache could not be made.
struct Filling(OpError);

impl From<kiln_cache::Error> for Filling {
    fn from(error: kiln_cache::Error) -> Self {
        Self(system(&error))
    }
}

fn fill(mount: &MountSpec, reads: &[Outcome], store: &Store, new: &Path) -> Result<(), Filling> {
    let MountKind::Cache { from, owner, .. } = &mount.kind else { return Ok(()) };
    if let Some(owner) = owner {
        let set = || {
            std::os::unix::fs::chown(new, Some(owner.uid), Some(owner.gid))?;
            std::fs::set_permissions(new, std::fs::Permissions::from_mode(owner.mode))
        };
        set().map_err(|error| Filling(system(&error)))?;
    }
    let Some((read, source)) = from else { return Ok(()) };
    let tree = open(&reads[*read], store).map_err(Filling)?;
    let top = find(&tree, source).map_err(Filling)?;
    if !top.is_dir() {
        let message = format!("a cache can't begin with `{source}`, which is not a directory");
        return Err(Filling(Box::new(Failure::new(FailureKind::Invalid, message))));
    }
    copy::execute(&CopySpec::of(source, "/"), &tree, &[], new).map_err(|error| Filling(failure(&error)))?;
    let same = || {
        std::os::unix::fs::chown(new, Some(top.uid), Some(top.gid))?;
        std::fs::set_permissions(new, std::fs::Permissions::from_mode(top.mode))
    };
    same().map_err(|error| Filling(system(&error)))
}

fn open(result: &Outcome, store: &Store) -> Result<Merged, OpError> {
    Merged::open(&folders(&result.chain, store)).map_err(|error| failure(&copy::Error::from(error)))
}

/// What stands at `source`, links followed.
fn find(tree: &Merged, source: &str) -> Result<Entry, OpError> {
    let found =
        resolve(tree, &clean(source.as_bytes())).map_err(|error| failure(&copy::Error::from(error)))?;
    found.entry.ok_or_else(|| {
        let message = format!("`{source}`: not found in what the mount reads");
        Box::new(
            Failure::new(FailureKind::NotFound, message).hint("`source=` is a path from the root of `from=`"),
        )
    })
}
