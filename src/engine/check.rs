//! `kiln lint` and `kiln build --check`: what is wrong in a Dockerfile, without building it.
//!
//! Nothing is pulled: bases that are not in the store are left out, with the checks that need them. A
//! directory needs no store and no privilege at all.

use std::ops::RangeInclusive;
use std::path::Path;

use kiln_grammar::ast::{Dockerfile, Span};
use kiln_grammar::diagnostic::{Diagnostic, Severity};
use kiln_grammar::source::Source;

use super::build::Build;
use super::{Engine, dockerfile};
use crate::api::{
    Allow, BrokenRule, BuildRequest, CheckReport, ContextSource, DockerfileSource, Events, Excerpt, Failure,
    FailureKind, Finding, Place, PullPolicy,
};
use crate::build::context::{self, Ignore};
use crate::build::graph::{self, Base, BaseRequest, Parameters};

/// Lines around a place of one line, and around one of several, as BuildKit shows them.
const AROUND: (usize, usize) = (2, 1);

/// A Dockerfile that is looked at, not built.
pub(super) struct Draft {
    pub(super) name: String,
    /// What stands in the file, before bytes that are no UTF-8 were replaced.
    bytes: Vec<u8>,
    pub(super) text: String,
    pub(super) ignore: Ignore,
}

impl Engine {
    /// Looks a Dockerfile through: every mistake, every broken rule.
    pub fn check(&self, request: &BuildRequest) -> Result<CheckReport, Failure> {
        let draft = self.draft(request)?;
        let (found, unknown) = match draft.parse(request) {
            Err(found) => (found, Vec::new()),
            Ok(tree) => {
                let parameters = self.looking(request, &draft);
                let checked = graph::check(&tree, &parameters, &mut |wanted| self.base_at_hand(wanted));
                let mut found = checked.found;
                found.extend(unasked(&tree, request));
                (found, checked.unknown.into_iter().collect())
            }
        };
        let findings = found.iter().map(|one| finding(one, &draft)).collect();
        Ok(CheckReport { file: draft.name, text: draft.text, findings, unknown_bases: unknown })
    }

    /// Reads the Dockerfile and the ignore file of a build.
    pub(super) fn draft(&self, request: &BuildRequest) -> Result<Draft, Failure> {
        let folder = match (&request.context, &request.dockerfile) {
            (ContextSource::Directory(folder), DockerfileSource::Path(_) | DockerfileSource::Text(_)) => {
                Some(folder.as_path())
            }
            (ContextSource::None, DockerfileSource::Text(_)) => None,
            _ => {
                let events = Events::none();
                let recipe = dockerfile::read(&Build::new(self, request, &events)?)?;
                return Ok(Draft::new(recipe.name, recipe.text.as_bytes().to_vec(), recipe.ignore));
            }
        };
        let (name, bytes, path) = dockerfile::source(&request.dockerfile, folder.unwrap_or(Path::new("")))?;
        let ignore = folder.map(|folder| context::ignore_for(path.as_deref(), folder)).transpose();
        let ignore =
            ignore.map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?.unwrap_or_default();
        Ok(Draft::new(name, bytes, ignore))
    }

    /// What lowering is told when nothing will run: what needs consent is no mistake of the file.
    pub(super) fn looking(&self, request: &BuildRequest, draft: &Draft) -> Parameters {
        let all =
            Allow { network_host: true, security_insecure: true, all_devices: true, devices: Vec::new() };
        Parameters { allow: all, ..self.parameters(request, draft.ignore.clone()) }
    }

    /// A base that is in the store, if there is a store.
    pub(super) fn base_at_hand(&self, wanted: &BaseRequest) -> Option<Base> {
        if wanted.layout.is_some() || !self.settings.root.join("meta.db").exists() {
            return None;
        }
        let found = self.local_base(&wanted.reference, &wanted.platform, PullPolicy::Never);
        let (image, config) = found.ok()??;
        Some(Base { image: image.id, config })
    }
}

impl Draft {
    fn new(name: String, bytes: Vec<u8>, ignore: Ignore) -> Self {
        Self { name, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, ignore }
    }

    /// Parses the text; all mistakes come back at once.
    pub(super) fn parse(&self, request: &BuildRequest) -> Result<kiln_grammar::Dockerfile, Vec<Diagnostic>> {
        kiln_grammar::parse_checked(&self.name, &self.bytes, dockerfile::check_wishes(request))
    }

    fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }

    /// The place of `span`; `None` for what isn't in the file.
    pub(super) fn place(&self, span: Span) -> Option<Place> {
        if span == Span::NOWHERE {
            return None;
        }
        let source = self.source();
        let (start, mut end) = (source.line_column(span.start), source.line_column(span.end.max(span.start)));
        // A line's own end belongs to it.
        if end.1 == 1 && end.0 > start.0 {
            end = source.line_column(span.end - 1);
        }
        Some(Place { start, end, excerpt: self.excerpt(start.0..=end.0) })
    }

    /// The lines of a place and those around them, with the empty one after the last line end.
    fn excerpt(&self, marked: RangeInclusive<usize>) -> Excerpt {
        let around = if marked.start() == marked.end() { AROUND.0 } else { AROUND.1 };
        let shown = marked.start().saturating_sub(around).max(1)..=marked.end() + around;
        let lines = self.text.split('\n').enumerate().skip(shown.start() - 1);
        let lines = lines.take(shown.end() + 1 - shown.start()).map(|(index, line)| {
            let number = index + 1;
            (number, line.trim_end_matches('\r').to_owned(), marked.contains(&number))
        });
        Excerpt { file: self.name.clone(), lines: lines.collect() }
    }
}

/// Warnings of what the user lends the build and no step asks for.
pub(super) fn unasked(tree: &Dockerfile, request: &BuildRequest) -> Vec<Diagnostic> {
    let secrets: Vec<&str> = request.secrets.iter().map(|secret| secret.id.as_str()).collect();
    let agents: Vec<&str> = request.ssh.iter().map(|agent| agent.id.as_str()).collect();
    graph::unasked(tree, &secrets, &agents)
}

fn finding(one: &Diagnostic, draft: &Draft) -> Finding {
    let rule = one.rule().map(|rule| BrokenRule { name: rule.name, about: rule.about, url: rule.url() });
    // A warning that is no rule only says that more were left out.
    let note = || BrokenRule { name: "TooMany", about: "a file has few mistakes", url: None };
    let rule = rule.or_else(|| (one.severity == Severity::Warning).then(note));
    Finding {
        code: one.code,
        rule,
        message: one.message.clone(),
        hint: one.hint.clone(),
        place: draft.place(one.span),
    }
}
