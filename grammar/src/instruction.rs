//! The parts of an instruction to its meaning: the rules of each keyword.

mod command;
mod copy;
mod pairs;
mod values;

use crate::ast::{Instruction, Kind, Onbuild, Span, Stage, Word};
use crate::diagnostic::{Diagnostic, Severity, quote};
use crate::flags::{self, Flags};
use crate::keyword::Keyword;
use crate::lines::{Cut, Line, first_word, is_blank};
use crate::parse::{self, Argument, Element, Piece, Refusal, Syntax};
use crate::suggest::closest;
use crate::word;

/// More mistakes than this are not kept.
const MAX_KEPT: usize = 10_000;

/// A mistake was reported; there is nothing to give back.
#[derive(Debug)]
pub(crate) struct Reported;

/// One instruction while it is looked at: where it lies and where its mistakes go.
pub(crate) struct Scope<'a, 'd> {
    line: &'a Line<'a>,
    /// Where `text` starts in the line's text: after `ONBUILD` for a trigger.
    base: usize,
    text: &'a str,
    pub(crate) escape: char,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// What a line of the file says.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A stage begins.
    From(Stage),
    /// Any other instruction.
    Other(Instruction),
}

/// Parses the instruction of a line that begins with `keyword`.
pub(crate) fn parse(
    line: &Line<'_>,
    keyword: Keyword,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Parsed, Reported> {
    let mut scope = Scope { line, base: 0, text: &line.text, escape, diagnostics };
    if keyword == Keyword::From {
        return scope.from().map(Parsed::From);
    }
    let kind = scope.kind(keyword)?;
    Ok(Parsed::Other(Instruction { original: line.text.to_string(), span: line.span, kind }))
}

/// Parses a line that is the text of an ONBUILD trigger.
pub(crate) fn trigger(
    line: &Line<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let mut scope = Scope { line, base: 0, text: &line.text, escape, diagnostics };
    let keyword = scope.trigger_keyword(0).ok()?;
    let kind = scope.kind(keyword).ok()?;
    Some(Instruction { original: line.text.to_string(), span: line.span, kind })
}

/// Reports a word that is no keyword; gives back the keyword that it was probably meant to be.
pub(crate) fn unknown(
    line: &Line<'_>,
    word: &str,
    at: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Keyword> {
    let span = line.span(at, at + word.len());
    let names = Keyword::ALL.into_iter().map(Keyword::name);
    let near = closest(word, names);
    // `RUN` and a no-break space, `CMD["x"]` and `FROM:` look like two words, but aren't.
    let letters = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
    let glued = Keyword::of(&word[..letters]).filter(|_| letters < word.len());
    let hint = match (near, glued) {
        (_, Some(keyword)) if word[letters..].starts_with(|c: char| !c.is_ascii()) => {
            Some(format!("a character that only looks like a blank follows {}", keyword.name()))
        }
        (_, Some(keyword)) => Some(format!("write a blank after {}", keyword.name())),
        (Some(near), None) => Some(format!("did you mean {near}?")),
        (None, None) if word.starts_with("//") || word.starts_with("--") || word.starts_with("/*") => {
            Some("a comment starts with `#`".to_owned())
        }
        (None, None) => None,
    };
    let message = format!("unknown instruction: {}", quote(word));
    diagnostics.push(Diagnostic::error("unknown-instruction", span, message).maybe_hint(hint));
    glued.or(near.and_then(Keyword::of))
}

impl<'a> Scope<'a, '_> {
    /// Keeps a mistake. When there are too many, further ones are dropped, but for an error when the
    /// last one kept is none: a file with an error is never taken for a right one.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        let is_error = |found: &Diagnostic| found.severity == Severity::Error;
        let dropped = !is_error(&diagnostic) || self.diagnostics.last().is_some_and(is_error);
        if self.diagnostics.len() < MAX_KEPT || !dropped {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Reports an error, for use as the last word on an instruction.
    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Result<T, Reported> {
        self.report(diagnostic);
        Err(Reported)
    }

    /// The place in the source of a part of the text.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        self.line.span(self.base + start, self.base + end)
    }

    fn piece_span(&self, piece: &Piece) -> Span {
        self.span(piece.start, piece.end)
    }

    /// The keyword's own place.
    fn keyword_span(&self) -> Span {
        self.span(0, first_word(self.text).len())
    }

    /// A word that will be expanded; a mistake in it is reported where it is.
    pub(crate) fn word(&mut self, piece: &Piece) -> Word {
        if let Err(mistake) = word::check(&piece.text, self.escape) {
            let whole = piece.text.len() == piece.end - piece.start;
            let start = if whole { piece.start + mistake.at.min(piece.text.len()) } else { piece.start };
            let span = self.span(start, piece.end);
            self.report(Diagnostic::error("bad-word", span, mistake.message));
        }
        self.plain_word(piece)
    }

    /// A word that won't be expanded.
    pub(crate) fn plain_word(&self, piece: &Piece) -> Word {
        Word { text: piece.text.clone(), span: self.piece_span(piece) }
    }

    /// The heredoc that a part of the text opens.
    fn heredoc(&self, piece: &Piece) -> Option<&'a Cut> {
        let at = self.base + piece.start;
        let index = self.line.heredocs.binary_search_by_key(&at, |cut| cut.at).ok()?;
        self.line.heredocs.get(index)
    }

    /// The parts of the text and its checked flags.
    fn syntax(&mut self, keyword: Keyword) -> Result<(Flags, Vec<Argument>), Reported> {
        match parse::parse(keyword, self.text, self.escape) {
            Ok(Syntax { flags, arguments }) => Ok((Flags::collect(self, keyword, flags), arguments)),
            Err(Refusal::TooDeep) => {
                let span = self.span(0, self.text.len());
                self.fail(Diagnostic::error("nested-too-deeply", span, "the JSON is nested too deeply"))
            }
            Err(Refusal::At(_)) if keyword == Keyword::From => self.wrong_from(),
            Err(Refusal::At(at)) => {
                let span = self.span(at.min(self.text.len()), self.text.len());
                let message = format!("this is not how {} is written", keyword.name());
                self.fail(Diagnostic::error("syntax", span, message))
            }
        }
    }

    fn kind(&mut self, keyword: Keyword) -> Result<Kind, Reported> {
        let (flags, arguments) = self.syntax(keyword)?;
        Ok(match keyword {
            Keyword::Run => Kind::Run(self.run(flags, arguments)?),
            Keyword::Copy => Kind::Copy(self.copy(flags, arguments)?),
            Keyword::Add => Kind::Add(self.add(flags, arguments)?),
            Keyword::Cmd => Kind::Cmd(self.command(keyword, arguments)?),
            Keyword::Entrypoint => Kind::Entrypoint(self.command(keyword, arguments)?),
            Keyword::Shell => Kind::Shell(self.shell(arguments)?),
            Keyword::Healthcheck => Kind::Healthcheck(self.healthcheck(flags, arguments)?),
            Keyword::Env => Kind::Env(self.pairs(keyword, arguments)?),
            Keyword::Label => Kind::Label(self.pairs(keyword, arguments)?),
            Keyword::Arg => Kind::Arg(self.declarations(arguments)?),
            Keyword::Expose => {
                let ports = self.words(keyword, arguments)?;
                // The words of a comment are one mistake.
                let comment = ports.iter().position(|port| port.text.starts_with('#'));
                let last = comment.map_or(ports.len(), |at| at + 1);
                ports[..last].iter().for_each(|port| self.check_port(port));
                Kind::Expose(ports)
            }
            Keyword::Volume => Kind::Volume(self.volume(arguments)?),
            Keyword::Workdir => Kind::Workdir(self.one(keyword, arguments)?),
            Keyword::User => Kind::User(self.one(keyword, arguments)?),
            Keyword::Stopsignal => {
                let signal = self.one(keyword, arguments)?;
                self.check_signal(&signal);
                Kind::Stopsignal(signal)
            }
            Keyword::Maintainer => Kind::Maintainer(self.maintainer(arguments)?),
            Keyword::Onbuild => Kind::Onbuild(self.onbuild(arguments)?),
            // Stages begin in `from`, and a trigger may not be one.
            Keyword::From => {
                let span = self.keyword_span();
                return self.no_trigger(keyword, span);
            }
        })
    }

    /// Reports that arguments are missing.
    fn missing<T>(&mut self, message: impl Into<String>) -> Result<T, Reported> {
        let span = self.keyword_span();
        self.fail(Diagnostic::error("argument-count", span, message))
    }

    fn from(&mut self) -> Result<Stage, Reported> {
        let (mut flags, arguments) = self.syntax(Keyword::From)?;
        let mut words = arguments.into_iter().filter_map(|argument| match argument {
            Argument::Word(piece) => Some(piece),
            _ => None,
        });
        let Some(base) = words.next() else { return self.wrong_from() };
        let base = self.word(&base);
        let name = words.next().map(|name| self.stage_name(&name)).transpose()?;
        let names: Vec<&str> = name.iter().map(|name| name.text.as_str()).collect();
        self.check_description(Keyword::From, &names);
        Ok(Stage {
            description: names.first().and_then(|name| self.description(name)),
            original: self.text.to_owned(),
            span: self.line.span,
            base,
            name,
            platform: flags.value("platform"),
            instructions: Vec::new(),
        })
    }

    /// What the comments right above the instruction say of `name`.
    fn description(&self, name: &str) -> Option<String> {
        let mut texts = self.line.comments.iter().map(|(_, text)| *text);
        texts.find_map(|text| Some(text.strip_prefix(name)?.strip_prefix(' ')?.trim().to_owned()))
    }

    /// Reports a comment right above an ARG or FROM that doesn't begin with a name that it declares.
    fn check_description(&mut self, keyword: Keyword, names: &[&str]) {
        let Some((at, text)) = self.line.comments.last() else { return };
        let first = text.split(' ').next().unwrap_or("");
        if names.is_empty() || names.contains(&first) {
            return;
        }
        let example = if let [name] = names { name } else { "<arg_key>" };
        let message =
            format!("comment for {} should follow the format: `# {example} <description>`", keyword.name());
        let hint = "put a blank line after a comment that is no description";
        let span = Span { start: *at, end: at + text.len() };
        self.report(Diagnostic::warning("invalid-definition-description", span, message).hint(hint));
    }

    /// The name after AS, in lower case.
    fn stage_name(&mut self, piece: &Piece) -> Result<Word, Reported> {
        let name = piece.text.to_lowercase();
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
        let span = self.piece_span(piece);
        if valid {
            return Ok(Word { text: name, span });
        }
        let message = format!(
            "invalid name for build stage: {}, name can't start with a number or contain symbols",
            quote(&piece.text)
        );
        let hint = "a name is a letter with letters, digits, `-`, `_` and `.` after it";
        self.fail(Diagnostic::error("stage-name", span, message).hint(hint))
    }

    /// Reports a FROM that the grammar refused.
    fn wrong_from<T>(&mut self) -> Result<T, Reported> {
        let words = words_of(self.text);
        let arguments: Vec<&(usize, &str)> =
            words.iter().skip(1).filter(|(_, word)| !word.starts_with("--")).collect();
        let texts: Vec<&str> = arguments.iter().map(|(_, word)| *word).collect();
        let hint = match texts[..] {
            [] => Some("name an image: `FROM <image>`, or `FROM scratch` for an empty one".to_owned()),
            [_, word] if word.eq_ignore_ascii_case("as") => {
                Some("a name for the stage must follow AS".to_owned())
            }
            [image, name] if !name.starts_with(['-', '–', '—', '#']) => {
                Some(format!("did you mean `FROM {image} AS {name}`?"))
            }
            _ if texts.iter().any(|word| word.starts_with('#')) => Some(COMMENT_HINT.to_owned()),
            _ => words.iter().skip(2).find_map(|(_, word)| flags::misplaced(Keyword::From, word)),
        };
        let span = match (arguments.get(1), arguments.last()) {
            (Some((start, _)), Some((last, word))) => self.span(*start, last + word.len()),
            _ => self.keyword_span(),
        };
        let message = "FROM requires either one or three arguments";
        self.fail(Diagnostic::error("argument-count", span, message).maybe_hint(hint))
    }

    /// The single argument of WORKDIR, USER and STOPSIGNAL: the rest of the line.
    fn one(&mut self, keyword: Keyword, arguments: Vec<Argument>) -> Result<Word, Reported> {
        match arguments.into_iter().next() {
            Some(Argument::Text(piece)) => Ok(self.word(&piece)),
            _ => self.missing(format!("{} requires exactly one argument", keyword.name())),
        }
    }

    fn maintainer(&mut self, arguments: Vec<Argument>) -> Result<Word, Reported> {
        match arguments.into_iter().next() {
            Some(Argument::Text(piece)) => Ok(self.plain_word(&piece)),
            _ => self.missing("MAINTAINER requires exactly one argument"),
        }
    }

    fn words(&mut self, keyword: Keyword, arguments: Vec<Argument>) -> Result<Vec<Word>, Reported> {
        let mut words = Vec::with_capacity(arguments.len());
        for argument in arguments {
            if let Argument::Word(piece) = argument {
                words.push(self.word(&piece));
            }
        }
        if words.is_empty() {
            return self.missing(format!("{} requires at least one argument", keyword.name()));
        }
        Ok(words)
    }

    fn volume(&mut self, arguments: Vec<Argument>) -> Result<Vec<Word>, Reported> {
        let words = match arguments.first() {
            Some(Argument::Array(elements)) => self.strings(elements)?,
            _ => {
                self.warn_broken_array(&arguments);
                return self.words(Keyword::Volume, arguments);
            }
        };
        let mut paths = Vec::with_capacity(words.len());
        for mut path in words {
            path.text = path.text.trim().to_owned();
            if path.text.is_empty() {
                let span = self.piece_span(&path);
                return self.fail(Diagnostic::error(
                    "blank",
                    span,
                    "VOLUME specified can not be an empty string",
                ));
            }
            paths.push(self.path(&path, copy::ELEMENT_HINT));
        }
        if paths.is_empty() {
            return self.missing("VOLUME requires at least one argument");
        }
        Ok(paths)
    }

    /// The elements of an array of strings; any other element is an error.
    fn strings(&mut self, elements: &[Element]) -> Result<Vec<Piece>, Reported> {
        let mut texts = Vec::with_capacity(elements.len());
        let mut wrong = false;
        for element in elements {
            match element {
                Element::Text(piece) => texts.push(piece.clone()),
                Element::Other(piece) => {
                    let span = self.piece_span(piece);
                    let message = "when using JSON array syntax, arrays must be comprised of strings only";
                    let hint = format!("put it in double quotes: \"{}\"", piece.text.replace('"', "\\\""));
                    self.report(Diagnostic::error("array-element", span, message).hint(hint));
                    wrong = true;
                }
            }
        }
        if wrong { Err(Reported) } else { Ok(texts) }
    }

    fn onbuild(&mut self, arguments: Vec<Argument>) -> Result<Onbuild, Reported> {
        let Some(Argument::Text(piece)) = arguments.into_iter().next() else {
            return self.missing("ONBUILD requires at least one argument");
        };
        let before = self.diagnostics.len();
        let trigger = self.written_trigger(&piece);
        // Nobody runs it here: docker stores any text but those that may be no trigger at all.
        for mistake in &mut self.diagnostics[before..] {
            if mistake.code == "onbuild-trigger" {
                return Err(Reported);
            }
            if mistake.severity == Severity::Error {
                mistake.severity = Severity::Warning;
                mistake.code = "broken-trigger";
            }
        }
        let mut text = piece.text;
        for cut in &self.line.heredocs {
            text.push('\n');
            text.push_str(&cut.heredoc.raw);
            text.push_str(&cut.heredoc.name);
        }
        Ok(Onbuild { text, trigger: trigger.ok().map(Box::new) })
    }

    fn written_trigger(&mut self, piece: &Piece) -> Result<Instruction, Reported> {
        let keyword = self.trigger_keyword(piece.start)?;
        let mut inner = Scope {
            line: self.line,
            base: self.base + piece.start,
            text: &self.text[piece.start..],
            escape: self.escape,
            diagnostics: self.diagnostics,
        };
        let kind = inner.kind(keyword)?;
        Ok(Instruction { original: piece.text.clone(), span: self.span(piece.start, piece.end), kind })
    }

    fn no_trigger<T>(&mut self, keyword: Keyword, span: Span) -> Result<T, Reported> {
        let message = format!("{} isn't allowed as an ONBUILD trigger", keyword.name());
        self.fail(Diagnostic::error("onbuild-trigger", span, message))
    }

    /// The keyword of a trigger at `at`; one that may not be a trigger is reported.
    fn trigger_keyword(&mut self, at: usize) -> Result<Keyword, Reported> {
        let word = first_word(&self.text[at..]);
        let span = self.span(at, at + word.len());
        match Keyword::of(word) {
            Some(Keyword::Onbuild) => {
                let message = "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
                self.fail(Diagnostic::error("onbuild-trigger", span, message))
            }
            Some(keyword @ (Keyword::From | Keyword::Maintainer)) => self.no_trigger(keyword, span),
            Some(keyword) => Ok(keyword),
            None => {
                unknown(self.line, word, self.base + at, self.diagnostics);
                Err(Reported)
            }
        }
    }
}

/// What to do about `# …` after an instruction.
pub(crate) const COMMENT_HINT: &str =
    "`#` starts a comment only at the start of a line: move it to a line of its own";

/// The words of a text with their offsets.
fn words_of(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    let mut words = Vec::new();
    for word in text.split_inclusive(is_blank) {
        let start = at;
        at += word.len();
        let word = word.trim_end_matches(is_blank);
        if !word.is_empty() {
            words.push((start, word));
        }
    }
    words
}
