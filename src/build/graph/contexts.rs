//! Named contexts: what `--build-context` puts in the place of an image, a stage or a `--from`.

use std::collections::BTreeSet;

use kiln_grammar::ast::{Instruction, Kind, Span, Stage};
use kiln_grammar::{suggest, word};

use super::lower::{BaseRequest, Lowering, StageBase, Stop};
use super::{ContextId, CopySource, CopySpec, Input, OpSpec, Vertex, VertexId};
use crate::api::NamedSource;
use crate::oci::{Platform, Reference};

impl<'a> Lowering<'a> {
    /// The number of the context called `name`, seen from a stage of this platform; the last of a name wins.
    ///
    /// Names of images mean the same in all spellings: `alpine` is `docker.io/library/alpine:latest`. A name with
    /// `::platform` after it comes first.
    fn find_context(&self, name: &str, platform: &Platform) -> Option<usize> {
        let contexts = &self.parameters.contexts;
        if contexts.is_empty() {
            return None;
        }
        let any = normal(name);
        let one = format!("{any}::{platform}");
        let find = |wanted: &str| contexts.iter().rposition(|context| normal_name(&context.name) == wanted);
        find(&one).or_else(|| find(&any))
    }

    /// What a stage that starts from the context `name` starts from; `None` when there is no such context.
    pub(super) fn context_base(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Option<StageBase>, Stop> {
        let Some(index) = self.find_context(name, platform) else { return Ok(None) };
        if let Some(request) = self.context_image(index, platform) {
            let base = self.image(&request, span)?;
            return Ok(Some(StageBase::Image(request, Box::new(base))));
        }
        Ok(Some(StageBase::Context(ContextId(index + 1), platform.clone())))
    }

    /// What the stage starts from, and what it does then: nothing, when a context of its own name takes its place.
    pub(super) fn start_of(
        &mut self,
        index: usize,
        stage: &'a Stage,
    ) -> Result<(StageBase, &'a [Instruction]), Stop> {
        if self.is_replaced(stage) {
            let platform = self.parameters.platform.clone();
            let name = stage.name.as_ref().map_or("", |name| name.text.as_str());
            if let Some(base) = self.context_base(name, &platform, stage.base.span)? {
                return Ok((base, &[]));
            }
        }
        Ok((self.base(index, stage)?, &stage.instructions))
    }

    /// Tells whether a context takes the place of the whole stage.
    pub(super) fn is_replaced(&self, stage: &Stage) -> bool {
        let replaced = |name: &str| self.find_context(name, &self.parameters.platform).is_some();
        stage.name.as_ref().is_some_and(|name| replaced(&name.text))
    }

    /// The files of the context `name`; `None` when there is no such context.
    pub(super) fn context_files(&mut self, name: &str, span: Span) -> Result<Option<Input>, Stop> {
        let platform = self.parameters.platform.clone();
        let Some(index) = self.find_context(name, &platform) else { return Ok(None) };
        let Some(request) = self.context_image(index, &platform) else {
            return Ok(Some(Input::Context(ContextId(index + 1))));
        };
        let base = self.image(&request, span)?;
        let shown = format!("FROM {}", request.shown());
        Ok(Some(Input::Vertex(self.source(&request, &base, shown, span))))
    }

    /// The image that a context is, if it is one.
    fn context_image(&self, index: usize, platform: &Platform) -> Option<BaseRequest> {
        let context = &self.parameters.contexts[index];
        let platform = platform.clone();
        match &context.source {
            NamedSource::Image(reference) => {
                Some(BaseRequest { reference: reference.clone(), platform, layout: None })
            }
            NamedSource::Layout(layout) => {
                let name = context.name.split("::").next().unwrap_or_default();
                let reference = name.parse().unwrap_or_else(|_| unnamed());
                Some(BaseRequest { reference, platform, layout: Some(Box::new(layout.clone())) })
            }
            NamedSource::Directory(_) | NamedSource::Remote(_) => None,
        }
    }

    /// Adds a vertex with all files of a context as a root filesystem.
    pub(super) fn context_rootfs(&mut self, id: ContextId, name: String, span: Span) -> VertexId {
        let scratch = self.scratch(span);
        let spec = CopySpec {
            sources: vec![CopySource::Path("/".to_owned())],
            destination: "/".to_owned(),
            reset_owner: true,
            ..CopySpec::default()
        };
        let reads = vec![Input::Context(id)];
        self.vertex(Vertex {
            op: OpSpec::Copy(spec),
            rootfs: Some(scratch),
            reads,
            name,
            span,
            variables: Vec::new(),
        })
    }

    /// What the progress shows of a stage that starts from a context.
    pub(super) fn context_name(&self, id: ContextId) -> &str {
        &self.parameters.contexts[id.0 - 1].name
    }

    /// Tells which contexts the Dockerfile never names, whatever the target is.
    pub(super) fn warn_of_unused_contexts(&mut self) {
        if self.parameters.contexts.is_empty() {
            return;
        }
        let named = self.mentioned();
        for context in &self.parameters.contexts {
            let name = normal_name(context.name.split("::").next().unwrap_or_default());
            if named.iter().any(|other| normal(other) == name) {
                continue;
            }
            let hint = suggest::closest(&context.name, named.iter().map(String::as_str));
            let hint = hint.map(|close| format!("did you mean {close}?"));
            let message =
                format!("build context `{}` is not used by any FROM, --from or mount", context.name);
            self.warn("unused-build-context", Span::NOWHERE, message, hint);
        }
    }

    /// Every name that a context could take the place of.
    fn mentioned(&mut self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for stage in &self.tree.stages {
            names.extend(word::expand(&stage.base.text, self.tree.directives.escape, &self.globals).ok());
            names.extend(stage.name.iter().map(|name| name.text.clone()));
            for instruction in &stage.instructions {
                let kind = match &instruction.kind {
                    Kind::Onbuild(onbuild) => onbuild.trigger.as_ref().map(|trigger| &trigger.kind),
                    kind => Some(kind),
                };
                let Some(kind) = kind else { continue };
                match kind {
                    Kind::Copy(copy) => names.extend(copy.from.iter().map(|from| from.text.clone())),
                    Kind::Run(run) => {
                        names.extend(run.mounts.iter().filter_map(super::mounts::named_from));
                    }
                    _ => {}
                }
            }
        }
        names
    }
}

/// A name that no image has.
fn unnamed() -> Reference {
    "localhost/oci-layout".parse().expect("it is a good name")
}

/// The name of a context: that of an image in its familiar form, without `:latest`.
fn normal_name(name: &str) -> String {
    match name.split_once("::") {
        Some((name, platform)) => format!("{}::{platform}", normal(name)),
        None => normal(name),
    }
}

fn normal(name: &str) -> String {
    let lower = name.to_lowercase();
    match lower.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
        }
        Err(_) => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_one_name_in_all_spellings() {
        for (name, expected) in [
            ("alpine", "alpine"),
            ("Alpine:latest", "alpine"),
            ("docker.io/library/alpine", "alpine"),
            ("alpine:3.20", "alpine:3.20"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("src", "src"),
            ("_x y", "_x y"),
        ] {
            assert_eq!(normal(name), expected);
        }
        assert_eq!(normal_name("alpine:latest::linux/amd64"), "alpine::linux/amd64");
    }
}
