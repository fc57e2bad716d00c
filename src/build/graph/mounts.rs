//! `RUN --mount`: what each one names, and where it goes.
//!
//! What a mount shows is always what a vertex made: a stage's end, an image, or a part of a context that was
//! copied into a layer of its own. The user's directory itself is never mounted: a step would see what the ignore
//! file hides, could write to it, and what it reads might change under it.

use kiln_cache::Sharing;
use kiln_grammar::ast::{Span, Word};
use kiln_grammar::mount::{self, Mount};
use kiln_grammar::word::Lookup;

use super::lower::{Lowering, Stop};
use super::scope::Scope;
use super::stage::StageState;
use super::{ContextId, CopySpec, FileOwner, Input, MountKind, MountSpec, OpSpec, Vertex, VertexId};

/// The build-arg whose value is put before the names of caches.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// What progress shows of a secret's variable.
const MASK: &str = "****";

/// The mounts of a RUN, and the vertices that they read.
pub(super) struct Mounts {
    pub(super) specs: Vec<MountSpec>,
    pub(super) reads: Vec<Input>,
    /// Where the first ssh agent is, in the order of the flags.
    pub(super) agent: Option<String>,
}

impl StageState {
    /// Lowers the `--mount`s of a RUN; all their mistakes are noted.
    pub(super) fn mounts(&self, lowering: &mut Lowering<'_>, words: &[Word]) -> Result<Mounts, Stop> {
        let mut mounts = Mounts { specs: Vec::with_capacity(words.len()), reads: Vec::new(), agent: None };
        let mut stopped = None;
        let mut agents = 0;
        for word in words {
            if let Err(stop) = self.mount(lowering, word, &mut mounts, &mut agents) {
                // A missing image is asked for when there are no mistakes.
                stopped = Some(match stopped {
                    Some(Stop::Wrong) => Stop::Wrong,
                    _ => stop,
                });
            }
        }
        match stopped {
            Some(stop) => Err(stop),
            None => {
                mounts.specs.sort_by(|one, other| one.target.cmp(&other.target));
                Ok(mounts)
            }
        }
    }

    fn mount(
        &self,
        lowering: &mut Lowering<'_>,
        word: &Word,
        mounts: &mut Mounts,
        agents: &mut usize,
    ) -> Result<(), Stop> {
        let parsed = mount::parse(word, lowering.tree.directives.escape, &self.scope)
            .map_err(|wrong| lowering.wrong(wrong))?;
        let target = parsed
            .destination(&self.config.config.working_dir, *agents)
            .map_err(|wrong| lowering.wrong(wrong))?;
        if matches!(parsed.kind, mount::MountKind::Ssh { .. }) {
            *agents += 1;
            mounts.agent = mounts.agent.take().or_else(|| target.clone());
        }
        let kind = self.kind(lowering, parsed, mounts)?;
        mounts.specs.push(MountSpec { target, kind });
        Ok(())
    }

    fn kind(
        &self,
        lowering: &mut Lowering<'_>,
        parsed: Mount,
        mounts: &mut Mounts,
    ) -> Result<MountKind, Stop> {
        let span = parsed.span;
        let owner = |owner: mount::Owner| FileOwner { mode: owner.mode, uid: owner.uid, gid: owner.gid };
        Ok(match parsed.kind {
            mount::MountKind::Bind { from, source, readonly } => {
                let input = match from {
                    Some(from) => self.mounted_files(lowering, from, span)?,
                    None => Input::Context(ContextId::MAIN),
                };
                let read = mounts.read(lowering, input, &source, span);
                MountKind::Files { read, source, readonly }
            }
            mount::MountKind::Cache { id, from, source, sharing, owner: of_new, readonly } => {
                let from = match from {
                    Some(from) => {
                        let input = self.mounted_files(lowering, from, span)?;
                        Some((mounts.read(lowering, input, &source, span), source))
                    }
                    None => None,
                };
                let namespace = lowering.build_arg(CACHE_NAMESPACE).unwrap_or_default();
                MountKind::Cache {
                    id: if namespace.is_empty() { id } else { format!("{namespace}/{id}") },
                    // As in BuildKit, mode and owner are of an empty cache only.
                    owner: of_new.filter(|_| from.is_none()).map(owner),
                    from,
                    sharing: sharing_of(sharing),
                    readonly,
                }
            }
            mount::MountKind::Tmpfs { size, readonly } => MountKind::Tmpfs { size, readonly },
            mount::MountKind::Secret { id, env, required, owner: of_file } => {
                MountKind::Secret { id, env, required, owner: owner(of_file) }
            }
            mount::MountKind::Ssh { id, required, owner: of_socket } => {
                MountKind::Ssh { id, required, owner: owner(of_socket) }
            }
        })
    }

    fn mounted_files(&self, lowering: &mut Lowering<'_>, from: String, span: Span) -> Result<Input, Stop> {
        lowering.files_of(&Word { text: from, span }, self.index, "mount")
    }
}

impl Mounts {
    /// Counts `input` among the reads; of a context, the part that is wanted is made into a layer.
    fn read(&mut self, lowering: &mut Lowering<'_>, input: Input, source: &str, span: Span) -> usize {
        let input = match input {
            Input::Context(context) => Input::Vertex(lowering.part_of_context(context, source, span)),
            vertex => vertex,
        };
        let known = self.reads.iter().position(|read| *read == input);
        known.unwrap_or_else(|| {
            self.reads.push(input);
            self.reads.len() - 1
        })
    }
}

impl Lowering<'_> {
    /// A layer that has `source` of a context at the same path, and nothing else.
    fn part_of_context(&mut self, context: ContextId, source: &str, span: Span) -> VertexId {
        if let Some(vertex) = self.parts.get(&(context, source.to_owned())) {
            return *vertex;
        }
        let rootfs = self.scratch(span);
        let spec = CopySpec { reset_owner: true, ..CopySpec::of(source, source) };
        let name = format!("[internal] load {source} of the build context");
        let reads = vec![Input::Context(context)];
        let vertex = self.vertex(Vertex {
            op: OpSpec::Copy(spec),
            rootfs: Some(rootfs),
            reads,
            name,
            span,
            variables: Vec::new(),
        });
        self.parts.insert((context, source.to_owned()), vertex);
        vertex
    }
}

fn sharing_of(sharing: mount::Sharing) -> Sharing {
    match sharing {
        mount::Sharing::Shared => Sharing::Shared,
        mount::Sharing::Private => Sharing::Private,
        mount::Sharing::Locked => Sharing::Locked,
    }
}

/// What `from=` of a mount names, as far as its text tells without variables.
pub(super) fn named_from(word: &Word) -> Option<String> {
    let parsed = mount::parse(word, '\\', &Scope::default()).ok()?;
    match parsed.kind {
        mount::MountKind::Bind { from, .. } | mount::MountKind::Cache { from, .. } => from,
        _ => None,
    }
}

/// A stage's variables, with a mask for those that mounts set to secrets.
pub(super) struct Masked<'a> {
    pub(super) scope: &'a Scope,
    pub(super) mounts: &'a [MountSpec],
}

impl Lookup for Masked<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let is_secret = |mount: &MountSpec| matches!(&mount.kind, MountKind::Secret { env: Some(env), .. } if env == name);
        // The secret is what the step will see, whatever else has the name.
        if self.mounts.iter().any(is_secret) { Some(MASK.to_owned()) } else { self.scope.get(name) }
    }
}
