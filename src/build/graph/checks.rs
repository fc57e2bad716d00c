//! Build checks that need scopes, bases or a stage's state; the others are `kiln_grammar`'s.

use std::cell::RefCell;
use std::collections::BTreeSet;

use kiln_grammar::ast::{CommandLine, Dockerfile, Instruction, Kind, Pair, Run, Span, Word};
use kiln_grammar::diagnostic::Diagnostic;
use kiln_grammar::lint::rules::{self, Reach};
use kiln_grammar::lint::{names_secret, script};
use kiln_grammar::mount::clean;
use kiln_grammar::suggest;
use kiln_grammar::word::{self, Lookup};

use super::lower::{BaseRequest, Lowering};
use super::scope::Scope;
use super::stage::StageState;
use super::{CopySource, CopySpec};
use crate::oci::{Platform, Reference};

/// More warnings than this are not kept: a hostile file could have millions.
const MAX_WARNINGS: usize = 1000;

/// More directories of a stage are not remembered: each stage on top of it has them all.
const MAX_FOLDERS: usize = 100;

/// Programs that go on after a command that failed, unless they are told not to.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// A scope that remembers the names that a word asks for in vain.
struct Watching<'a> {
    scope: &'a Scope,
    missed: RefCell<Vec<String>>,
}

impl Lookup for Watching<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.scope.get(name)
    }

    fn missed(&self, name: &str) {
        if self.scope.complete && !self.scope.declares(name) {
            self.missed.borrow_mut().push(name.to_owned());
        }
    }
}

impl Lowering<'_> {
    /// Notes a warning, unless the file doesn't want it.
    pub(super) fn warn(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let span = self.within.unwrap_or(span);
        if self.warnings.len() >= MAX_WARNINGS || !self.tree.checks.wants(code, span) {
            return;
        }
        let warning = Diagnostic::warning(code, span, message).maybe_hint(hint);
        // A word may be expanded twice.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Lets `expand` look variables up, and warns of those that it asks for in vain.
    pub(super) fn watch<T>(&mut self, scope: &Scope, span: Span, expand: impl FnOnce(&dyn Lookup) -> T) -> T {
        let watching = Watching { scope, missed: RefCell::default() };
        let result = expand(&watching);
        for name in watching.missed.into_inner() {
            let names = scope.names();
            let hint = match suggest::closest(&name, names) {
                Some(near) => Some(format!("did you mean ${near}?")),
                None if self.is_global(&name) => Some(format!("declare it in the stage, too: ARG {name}")),
                None => None,
            };
            self.warn("undefined-var", span, format!("usage of undefined variable `${name}`"), hint);
        }
        result
    }

    /// Warns of FROMs whose images can't be named without a --build-arg.
    pub(super) fn check_default_bases(&mut self) {
        let escape = self.tree.directives.escape;
        let mut defaults = Scope::default();
        for (name, value) in &self.platform {
            defaults.declare(name, Some(value.clone()));
        }
        for declaration in &self.tree.globals {
            let default = declaration.default.as_ref();
            let Ok(value) = default.map(|word| word::expand(&word.text, escape, &defaults)).transpose()
            else {
                return;
            };
            defaults.declare(&declaration.name.text, value);
        }
        let tree: &Dockerfile = self.tree;
        for stage in tree.stages.iter().filter(|stage| stage.base.text.contains('$')) {
            let Ok(name) = word::expand(&stage.base.text, escape, &defaults) else { return };
            if name.parse::<Reference>().is_err() {
                let text = &stage.base.text;
                let message =
                    format!("default value for ARG {text} results in empty or invalid base image name");
                self.warn("invalid-default-arg-in-from", stage.base.span, message, None);
            }
        }
    }

    /// Warns of a base that is for another platform.
    pub(super) fn check_base_platform(&mut self, request: &BaseRequest, actual: &Platform, span: Span) {
        let expected = &request.platform;
        let same = (&expected.os, &expected.architecture) == (&actual.os, &actual.architecture);
        if !same && !actual.os.is_empty() && !actual.architecture.is_empty() {
            let name = request.reference.familiar();
            let message = format!(
                "base image {name} was pulled with platform `{actual}`, expected `{expected}` for current build"
            );
            self.warn("invalid-base-image-platform", span, message, None);
        }
    }

    /// Warns of names of secrets that show only when their variables are filled in.
    pub(super) fn check_keys(&mut self, written: &[Pair], pairs: &[(String, String)]) {
        for (word, (key, _)) in written.iter().map(|pair| &pair.key).zip(pairs) {
            if word.text.contains('$') && names_secret(key) {
                let message = format!("do not use ARG or ENV instructions for sensitive data (ENV `{key}`)");
                let hint = Some("use RUN --mount=type=secret".to_owned());
                self.warn("secrets-used-in-arg-or-env", word.span, message, hint);
            }
        }
    }

    /// Warns of sources that the ignore file hides.
    pub(super) fn check_sources(&mut self, spec: &CopySpec, instruction: &Instruction) {
        for source in &spec.sources {
            let CopySource::Path(path) = source else { continue };
            let inside = clean(path);
            if !path.contains("://") && self.parameters.hidden.hides(inside.trim_start_matches('/')) {
                let message = format!("attempting to copy file `{path}` that is excluded by .dockerignore");
                let hint =
                    Some("remove the pattern that hides it, or add one that begins with `!`".to_owned());
                self.warn("copy-ignored-file", keyword_span(instruction), message, hint);
            }
        }
    }

    /// All warnings about what was lowered and about the file, in the order of the file.
    pub(super) fn all_warnings(&self) -> Vec<Diagnostic> {
        let in_reach = |found: &&Diagnostic| {
            let in_stages = rules::by_code(found.code).is_some_and(|rule| rule.reach == Reach::Stage);
            !in_stages || self.reaches(found.span)
        };
        let mut all: Vec<Diagnostic> = self.tree.warnings.iter().filter(in_reach).cloned().collect();
        all.extend(self.warnings.iter().cloned());
        all.sort_by_key(|found| found.span.start);
        all
    }

    /// Tells whether the stage at this place was lowered, or is being lowered.
    fn reaches(&self, span: Span) -> bool {
        let stages = &self.tree.stages;
        let index = stages.partition_point(|stage| stage.span.start <= span.start);
        index.checked_sub(1).is_none_or(|index| self.reached.contains(&index))
    }

    fn is_global(&self, name: &str) -> bool {
        self.platform.contains_key(name)
            || self.tree.globals.iter().any(|declaration| declaration.name.text == name)
    }
}

impl StageState {
    /// Looks at an instruction before it changes the stage.
    pub(super) fn check(&self, lowering: &mut Lowering<'_>, instruction: &Instruction) {
        match &instruction.kind {
            Kind::Cmd(command) => self.check_command(lowering, instruction, command, "CMD"),
            Kind::Entrypoint(command) => self.check_command(lowering, instruction, command, "ENTRYPOINT"),
            Kind::Run(run) => self.check_script(lowering, instruction, run),
            _ => {}
        }
    }

    fn check_command(
        &self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        command: &CommandLine,
        name: &str,
    ) {
        let own_shell = self.config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        if matches!(command, CommandLine::Exec(_)) || own_shell {
            return;
        }
        let message = format!(
            "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        );
        lowering.warn("json-args-recommended", keyword_span(instruction), message, None);
    }

    /// Warns of a heredoc whose commands go on after one failed.
    fn check_script(&self, lowering: &mut Lowering<'_>, instruction: &Instruction, run: &Run) {
        let (CommandLine::Shell(line), [heredoc]) = (&run.command, run.heredocs.as_slice()) else { return };
        let alone = line.trim() == heredoc.token && !heredoc.body.starts_with("#!");
        if alone && self.shell_goes_on() && script::ignores_failures(&heredoc.body) {
            let message =
                "the commands of this heredoc go on after one failed: only the last one's result counts";
            let hint = Some("begin the script with `set -e`".to_owned());
            lowering.warn("heredoc-ignores-failures", keyword_span(instruction), message, hint);
        }
    }

    /// Tells whether the stage's shell goes on after a command that failed.
    fn shell_goes_on(&self) -> bool {
        let Some(shell) = &self.config.config.shell else { return true };
        let Some((program, arguments)) = shell.split_first() else { return true };
        let stops = |word: &String| {
            word == "errexit" || (word.starts_with('-') && !word.starts_with("--") && word.contains('e'))
        };
        let name = program.rsplit('/').next().unwrap_or(program);
        SHELLS.contains(&name) && !arguments.iter().any(stops)
    }

    /// Warns of a relative WORKDIR on a base whose own one may change.
    pub(super) fn check_workdir(&mut self, lowering: &mut Lowering<'_>, path: &str, span: Span) {
        if !self.workdir_set && !path.starts_with('/') {
            let message =
                format!("relative workdir `{path}` can have unexpected results if the base image changes");
            let hint = Some("start it with `/`".to_owned());
            lowering.warn("workdir-relative-path", span, message, hint);
        }
        self.workdir_set = true;
    }

    /// Warns of several sources that may overwrite one another; remembers what is a directory now.
    pub(super) fn check_destination(&mut self, lowering: &mut Lowering<'_>, spec: &CopySpec, word: &Word) {
        let text = &spec.destination;
        let path = clean(text);
        let asks_for_folder = ["/", "/.", "/.."].iter().any(|end| text.ends_with(end));
        let several = !spec.parents && (spec.sources.len() > 1 || spec.sources.iter().any(has_wildcard));
        if several && !asks_for_folder && !is_folder(&self.folders, &path) {
            let message = format!(
                "several files may be copied to `{path}`, which does not end with `/`: \
                 unless it is a directory, each overwrites the one before"
            );
            let hint = Some(format!("write `{path}/`"));
            lowering.warn("copy-several-to-file", word.span, message, hint);
        }
        if asks_for_folder {
            self.note_folder(path);
        }
    }

    /// Remembers that `path` is a directory.
    pub(super) fn note_folder(&mut self, path: String) {
        if self.folders.len() < MAX_FOLDERS {
            self.folders.insert(path);
        }
    }
}

fn has_wildcard(source: &CopySource) -> bool {
    matches!(source, CopySource::Path(path) if path.contains(['*', '?', '[']))
}

/// Tells whether `path` is one of `folders` or holds one.
fn is_folder(folders: &BTreeSet<String>, path: &str) -> bool {
    let first = folders.range(path.to_owned()..).next();
    path == "/"
        || first.is_some_and(|folder| {
            folder.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        || folders
            .range(format!("{path}/")..)
            .next()
            .is_some_and(|folder| folder.starts_with(&format!("{path}/")))
}

/// The place of an instruction's keyword; of its FROM for a trigger of the base.
fn keyword_span(instruction: &Instruction) -> Span {
    let keyword = instruction.original.split([' ', '\t']).next().unwrap_or("");
    let end = instruction.span.start + keyword.len();
    Span { end: end.min(instruction.span.end), ..instruction.span }
}

#[cfg(test)]
mod tests;
