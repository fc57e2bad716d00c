//! What selects and configures the frontend: `# syntax=`, and build-args that BuildKit itself reads.

use std::collections::BTreeSet;

use kiln_grammar::ast::{Dockerfile, Kind, Span};
use kiln_grammar::suggest;

use super::lower::Lowering;
use super::scope::PROXY_NAMES;
use crate::oci::Reference;

/// The build-arg that takes the place of `# syntax=`.
const SYNTAX: &str = "BUILDKIT_SYNTAX";

/// Build-args that need no ARG; each does what it does in BuildKit or is refused by name.
const SWITCHES: [&str; 11] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    SYNTAX,
    "SOURCE_DATE_EPOCH",
];

/// Images of BuildKit's own frontend, which kiln stands for.
const FRONTENDS: [&str; 2] = ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];

impl<'a> Lowering<'a> {
    /// `docker/dockerfile`, of any tag or digest, is served by kiln itself; another frontend can't be.
    pub(super) fn refuse_foreign_frontend(&mut self) {
        let chosen = self.build_arg(SYNTAX).filter(|text| !text.is_empty());
        let directive = self.tree.directives.syntax.as_ref();
        let (text, span, hint) = match (&chosen, directive) {
            (Some(text), _) => (text.as_str(), Span::NOWHERE, "leave the build-arg BUILDKIT_SYNTAX out"),
            (None, Some(word)) => (word.text.as_str(), word.span, "remove the `# syntax=` line"),
            (None, None) => return,
        };
        let name = text.split_whitespace().next().unwrap_or_default().to_owned();
        let is_own = |reference: Reference| FRONTENDS.contains(&reference.name().as_str());
        if name == "dockerfile.v0" || name.parse().is_ok_and(is_own) {
            return;
        }
        self.error(
            "unsupported-frontend",
            span,
            format!("frontend image `{name}` is not supported"),
            Some(format!("{hint}: kiln reads docker/dockerfile itself")),
        );
    }

    /// Refuses the switches that would change the result, and that kiln doesn't have.
    pub(super) fn refuse_switches(&mut self) {
        let on = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true");
        for (name, what) in [
            ("BUILDKIT_INLINE_CACHE", "a cache inside the image (BUILDKIT_INLINE_CACHE)"),
            ("BUILDKIT_MULTI_PLATFORM", "an index of platforms (BUILDKIT_MULTI_PLATFORM)"),
        ] {
            if self.build_arg(name).is_some_and(on) {
                self.unsupported(what, Span::NOWHERE);
            }
        }
        if self.build_arg("BUILDKIT_BUILD_NAME").is_some_and(|value| !value.is_empty()) {
            self.unsupported("a name of the build (BUILDKIT_BUILD_NAME)", Span::NOWHERE);
        }
    }

    /// Tells which `--build-arg`s no ARG asks for.
    pub(super) fn warn_of_unused_args(&mut self) {
        let declared = self.declared_args();
        for (name, _) in &self.parameters.build_args {
            let known = declared.contains(name.as_str())
                || PROXY_NAMES.contains(&name.as_str())
                || self.platform.contains_key(name)
                || SWITCHES.contains(&name.as_str());
            if known {
                continue;
            }
            let hint = suggest::closest(name, declared.iter().copied().chain(SWITCHES))
                .map(|close| format!("did you mean {close}?"));
            let message = format!("build-arg `{name}` is not consumed by any ARG");
            self.warn("unused-build-arg", Span::NOWHERE, message, hint);
        }
    }

    fn declared_args(&self) -> BTreeSet<&'a str> {
        let tree: &'a Dockerfile = self.tree;
        let in_stages = tree.stages.iter().flat_map(|stage| &stage.instructions);
        let declared = in_stages.filter_map(|instruction| match &instruction.kind {
            Kind::Arg(declarations) => Some(declarations),
            _ => None,
        });
        declared.flatten().chain(&tree.globals).map(|declaration| declaration.name.text.as_str()).collect()
    }
}
