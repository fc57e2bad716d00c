//! ADD of addresses: each becomes a vertex of its own, which the copy reads.

use kiln_grammar::ast::{self, Instruction, Span};

use super::lower::{Lowering, Stop};
use super::stage::StageState;
use super::{ContextId, CopySource, CopySpec, Input, OpSpec, Vertex, VertexId, name};
use crate::api::RemoteSource;

impl StageState {
    /// Where the sources of an ADD are read from; those that are addresses are taken out of the context's.
    ///
    /// Without a path among them the context isn't read at all, so that nothing in it matters.
    pub(super) fn add_reads(
        &self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        add: &ast::Add,
        spec: &mut CopySpec,
    ) -> Result<Vec<Input>, Stop> {
        let mut remotes = self.remote_sources(lowering, instruction, spec)?;
        self.expect_checksum(lowering, add, spec, &mut remotes)?;
        let is_git = |remote: &Option<RemoteSource>| matches!(remote, Some(RemoteSource::Git(_)));
        if add.keep_git_dir && !remotes.iter().any(is_git) {
            let hint = Some("remove it".to_owned());
            let message = "--keep-git-dir means nothing without a git source";
            lowering.warn("useless-flags", instruction.span, message, hint);
        }
        let local = |source: &CopySource| matches!(source, CopySource::Path(_));
        let main = remotes.iter().all(Option::is_none)
            || spec.sources.iter().zip(&remotes).any(|(source, remote)| remote.is_none() && local(source));
        let mut reads: Vec<Input> = main.then_some(Input::Context(ContextId::MAIN)).into_iter().collect();
        for (source, remote) in spec.sources.iter_mut().zip(remotes) {
            let (Some(mut remote), CopySource::Path(shown)) = (remote, &*source) else { continue };
            let shown = shown.clone();
            let (name, unpack) = match &mut remote {
                RemoteSource::Http(http) => (Some(http.file_name()), add.unpack == Some(true)),
                RemoteSource::Git(git) => {
                    if add.keep_git_dir {
                        git.keep_git_dir = Some(true);
                    }
                    (None, false)
                }
            };
            let vertex = lowering.remote(remote, instruction.span);
            *source = CopySource::Remote { read: reads.len(), name, unpack, shown };
            reads.push(Input::Vertex(vertex));
        }
        Ok(reads)
    }

    /// One for each source: what it is if it is an address.
    fn remote_sources(
        &self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        spec: &CopySpec,
    ) -> Result<Vec<Option<RemoteSource>>, Stop> {
        let mut remotes = Vec::with_capacity(spec.sources.len());
        for source in &spec.sources {
            let parsed = match source {
                CopySource::Path(path) => RemoteSource::parse(path),
                _ => None,
            };
            remotes.push(
                parsed
                    .transpose()
                    .map_err(|message| lowering.error("bad-git-address", instruction.span, message, None))?,
            );
        }
        Ok(remotes)
    }

    /// `--checksum` belongs to one address.
    fn expect_checksum(
        &self,
        lowering: &mut Lowering<'_>,
        add: &ast::Add,
        spec: &CopySpec,
        remotes: &mut [Option<RemoteSource>],
    ) -> Result<(), Stop> {
        let Some(word) = &add.checksum else { return Ok(()) };
        let text = lowering.expand(word, &self.scope).ok_or(Stop::Wrong)?;
        if text.is_empty() {
            return Ok(());
        }
        let wrong = match (spec.sources.len(), remotes) {
            (1, [Some(RemoteSource::Http(source))]) => match text.parse() {
                Ok(checksum) => {
                    source.checksum = Some(checksum);
                    return Ok(());
                }
                Err(message) => message,
            },
            (1, [Some(RemoteSource::Git(source))]) => match source.expect_commit(&text) {
                Ok(()) => return Ok(()),
                Err(message) => message,
            },
            (1, _) => "checksum requires HTTP(S) or Git sources".to_owned(),
            _ => "checksum can't be specified for multiple sources".to_owned(),
        };
        Err(lowering.error("bad-checksum", word.span, wrong, None))
    }
}

impl Lowering<'_> {
    /// The vertex that brings `source`: one for all that name the same.
    fn remote(&mut self, source: RemoteSource, span: Span) -> VertexId {
        let name = name::remote(&source);
        let op = OpSpec::Remote(source);
        match self.same(&op) {
            Some(vertex) => vertex,
            None => {
                self.vertex(Vertex { op, rootfs: None, reads: Vec::new(), name, span, variables: Vec::new() })
            }
        }
    }
}

/// What COPY must not name: `a URL`, `a git ref`.
pub(super) fn refused_for_copy(path: &str) -> Option<&'static str> {
    match RemoteSource::parse(path)? {
        Ok(RemoteSource::Http(_)) => Some("a URL"),
        Ok(RemoteSource::Git(_)) | Err(_) => Some("a git ref"),
    }
}
