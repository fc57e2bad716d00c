//! Instructions to stages: what may stand where.

use crate::ast::{Declaration, Kind, Span, Stage};
use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{self, Parsed};
use crate::keyword::Keyword;
use crate::lines::{Line, Scanned};

/// A file with more errors than this is no Dockerfile; the rest of it isn't looked at.
const MAX_ERRORS: usize = 1000;

/// Parses the instructions and sorts them into global ARGs and stages.
pub(crate) fn assemble(
    scanned: &Scanned<'_>,
    text: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Declaration>, Vec<Stage>) {
    let mut builder = Builder {
        escape: scanned.directives.escape,
        diagnostics,
        globals: vec![],
        stages: vec![],
        begun: false,
        early: false,
    };
    let mut errors = 0;
    for line in &scanned.lines {
        let before = builder.diagnostics.len();
        builder.add(line);
        errors +=
            builder.diagnostics[before..].iter().filter(|found| found.severity == Severity::Error).count();
        if errors > MAX_ERRORS {
            break;
        }
    }
    let Builder { globals, stages, begun, early, .. } = builder;
    if scanned.lines.is_empty() && diagnostics.is_empty() {
        let hint = "it has only comments and blank lines: write `FROM <image>`";
        diagnostics.push(
            Diagnostic::error("no-instructions", Span::default(), "file with no instructions").hint(hint),
        );
    } else if !begun && !early {
        let end = text.trim_end().len();
        let span = scanned.lines.last().map_or(Span { start: end, end }, |line| line.span);
        let message = "dockerfile contains no stages to build";
        diagnostics
            .push(Diagnostic::error("no-stages", span, message).hint("start a stage with `FROM <image>`"));
    }
    (globals, stages)
}

struct Builder<'d> {
    escape: char,
    diagnostics: &'d mut Vec<Diagnostic>,
    globals: Vec<Declaration>,
    stages: Vec<Stage>,
    /// True after the first FROM, a mistyped one included: what follows it is in its place.
    begun: bool,
    /// True when an instruction before the first FROM was reported; once is enough.
    early: bool,
}

impl Builder<'_> {
    fn add(&mut self, line: &Line<'_>) {
        let word = line.keyword();
        let Some(keyword) = Keyword::of(word) else {
            let meant = instruction::unknown(line, word, 0, self.diagnostics);
            self.begun |= meant == Some(Keyword::From);
            return;
        };
        self.begun |= keyword == Keyword::From;
        if !self.begun && keyword != Keyword::Arg {
            self.before_from(line, keyword);
        }
        match instruction::parse(line, keyword, self.escape, self.diagnostics) {
            Ok(Parsed::From(stage)) => self.stages.push(stage),
            Ok(Parsed::Other(found)) => match (self.stages.last_mut(), found.kind) {
                (Some(stage), kind) => stage.instructions.push(crate::ast::Instruction { kind, ..found }),
                (None, Kind::Arg(declarations)) => self.globals.extend(declarations),
                (None, _) => {}
            },
            // It was reported; the rest of the file is still looked at.
            Err(instruction::Reported) => {}
        }
    }

    /// Reports an instruction that belongs to no stage, unless one was reported.
    fn before_from(&mut self, line: &Line<'_>, keyword: Keyword) {
        if std::mem::replace(&mut self.early, true) {
            return;
        }
        let span = line.span(0, line.keyword().len());
        let message =
            format!("no build stage in current context: {} stands before the first FROM", keyword.name());
        let hint = "only ARG may stand before the first FROM";
        self.diagnostics.push(Diagnostic::error("instruction-before-from", span, message).hint(hint));
    }
}
