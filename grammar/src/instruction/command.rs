//! Commands: RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK.

use super::{COMMENT_HINT, Reported, Scope};
use crate::ast::{CommandLine, Healthcheck, Run, Word};
use crate::diagnostic::{Diagnostic, quote};
use crate::duration;
use crate::flags::Flags;
use crate::keyword::Keyword;
use crate::parse::{Argument, Piece};
use crate::suggest::closest;
use crate::{mount, run_flags};

/// The shortest duration that a health check takes, in nanoseconds: 1 ms.
const MIN_DURATION_NS: i64 = 1_000_000;

/// Quotes that JSON does not know.
const WRONG_QUOTES: [char; 5] = ['\'', '“', '”', '‘', '’'];

impl Scope<'_, '_> {
    pub(super) fn run(&mut self, mut flags: Flags, arguments: Vec<Argument>) -> Result<Run, Reported> {
        self.warn_comment_after_escape();
        let mounts = flags.list("mount");
        let network = flags.value("network");
        let security = flags.value("security");
        let devices = flags.list("device");
        self.check_run_flags(&mounts, network.as_ref(), security.as_ref(), &devices);
        let command = self.command(Keyword::Run, arguments)?;
        let heredocs: Vec<_> = self.line.heredocs.iter().map(|cut| cut.heredoc.clone()).collect();
        if matches!(&command, CommandLine::Exec(program) if program.is_empty()) {
            return self.missing("RUN requires at least one argument");
        }
        Ok(Run { command, heredocs, mounts, network, security, devices })
    }

    /// Reports what is wrong with RUN's flags whatever the variables are.
    fn check_run_flags(
        &mut self,
        mounts: &[Word],
        network: Option<&Word>,
        security: Option<&Word>,
        devices: &[Word],
    ) {
        let escape = self.escape;
        for mount in mounts {
            mount::check(mount, escape).into_iter().for_each(|found| self.report(found));
        }
        let nothing = |_: &str| None;
        let constant = |word: &&Word| !word.text.contains('$');
        let network =
            network.filter(constant).and_then(|word| run_flags::network(word, escape, &nothing).err());
        let security =
            security.filter(constant).and_then(|word| run_flags::security(word, escape, &nothing).err());
        let devices = devices.iter().filter(constant);
        let devices = devices.filter_map(|word| run_flags::device(word, escape, &nothing).err());
        network.into_iter().chain(security).chain(devices).for_each(|found| self.report(found));
    }

    /// The command of `RUN`, `CMD`, `ENTRYPOINT` or `HEALTHCHECK CMD`.
    pub(super) fn command(
        &mut self,
        keyword: Keyword,
        arguments: Vec<Argument>,
    ) -> Result<CommandLine, Reported> {
        self.warn_broken_array(&arguments);
        match arguments.into_iter().next() {
            Some(Argument::Array(elements)) => {
                let texts = self.strings(&elements)?;
                Ok(CommandLine::Exec(texts.into_iter().map(|piece| piece.text).collect()))
            }
            Some(Argument::Text(piece)) => {
                self.warn_misplaced_flag(keyword, &piece);
                Ok(CommandLine::Shell(piece.text))
            }
            _ => {
                let span = self.keyword_span();
                let name = keyword.name();
                let message = format!("{name} without a command runs an empty line in the shell");
                let hint = match keyword {
                    Keyword::Cmd | Keyword::Entrypoint => {
                        format!("write `{name} []` to clear the one of the base")
                    }
                    _ => "write a command, or remove the instruction".to_owned(),
                };
                self.report(Diagnostic::warning("empty-command", span, message).hint(hint));
                Ok(CommandLine::Shell(String::new()))
            }
        }
    }

    pub(super) fn shell(&mut self, arguments: Vec<Argument>) -> Result<Vec<String>, Reported> {
        match arguments.into_iter().next() {
            Some(Argument::Array(elements)) => {
                let texts = self.strings(&elements)?;
                if texts.is_empty() {
                    return self.missing("SHELL requires at least one argument");
                }
                Ok(texts.into_iter().map(|piece| piece.text).collect())
            }
            Some(Argument::Text(piece)) => {
                let span = self.piece_span(&piece);
                let words: Vec<String> =
                    piece.text.split_whitespace().take(8).map(|word| format!("{word:?}")).collect();
                let hint = match broken_array(&piece) {
                    Some(hint) => hint.to_owned(),
                    None => format!("write SHELL [{}]", words.join(", ")),
                };
                let message = "SHELL requires the arguments to be in JSON form";
                self.fail(Diagnostic::error("not-json", span, message).hint(hint))
            }
            _ => self.missing("SHELL requires at least one argument"),
        }
    }

    pub(super) fn healthcheck(
        &mut self,
        mut flags: Flags,
        arguments: Vec<Argument>,
    ) -> Result<Healthcheck, Reported> {
        let mut arguments = arguments.into_iter();
        let Some(Argument::Word(kind)) = arguments.next() else {
            return self.missing("HEALTHCHECK requires at least one argument");
        };
        let rest: Vec<Argument> = arguments.collect();
        let span = self.piece_span(&kind);
        match kind.text.to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => {
                if !flags.is_empty() {
                    let message = "flags mean nothing to HEALTHCHECK NONE";
                    self.report(Diagnostic::warning("useless-flags", span, message));
                }
                Ok(Healthcheck::None)
            }
            "NONE" => {
                self.fail(Diagnostic::error("argument-count", span, "HEALTHCHECK NONE takes no arguments"))
            }
            "CMD" => {
                let command = match rest.is_empty() {
                    true => self.missing("missing command after HEALTHCHECK CMD"),
                    false => self.command(Keyword::Healthcheck, rest),
                };
                // All mistakes in the flags are told before a missing command ends it.
                let interval = self.duration(&mut flags, "interval");
                let timeout = self.duration(&mut flags, "timeout");
                let start_period = self.duration(&mut flags, "start-period");
                let start_interval = self.duration(&mut flags, "start-interval");
                let retries = self.retries(&mut flags);
                let command = command?;
                if matches!(&command, CommandLine::Exec(program) if program.is_empty()) {
                    return self.missing("missing command after HEALTHCHECK CMD");
                }
                Ok(Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries })
            }
            other => {
                let message = format!("unknown type {} in HEALTHCHECK (try CMD)", quote(other));
                let near = closest(other, ["CMD", "NONE"]).map(|near| format!("did you mean {near}?"));
                let hint = near.unwrap_or_else(|| "write CMD before the command".to_owned());
                self.fail(Diagnostic::error("healthcheck-type", span, message).hint(hint))
            }
        }
    }

    /// A duration flag in nanoseconds; 0 when it was not given or wrong.
    fn duration(&mut self, flags: &mut Flags, name: &str) -> i64 {
        let Some(Word { text, span }) = flags.value(name) else { return 0 };
        let mistake = match duration::parse(&text) {
            Ok(0) => return 0,
            Ok(nanoseconds) if nanoseconds >= MIN_DURATION_NS => return nanoseconds,
            Ok(_) => {
                Diagnostic::error("duration", span, format!("interval `{name}` cannot be less than 1ms"))
            }
            Err(why) => Diagnostic::error("duration", span, why)
                .hint("write a number with a unit: ns, us, ms, s, m or h, for instance 1m30s"),
        };
        self.report(mistake);
        0
    }

    fn retries(&mut self, flags: &mut Flags) -> u32 {
        let Some(Word { text, span }) = flags.value("retries") else { return 0 };
        let message = match text.parse::<i32>() {
            Ok(number) => match u32::try_from(number) {
                Ok(number) => return number,
                Err(_) => format!("`--retries` cannot be negative ({number})"),
            },
            Err(_) => format!("`--retries` is not a number: {}", quote(&text)),
        };
        self.report(Diagnostic::error("retries", span, message));
        0
    }

    /// Warns about a command that its writer took for a JSON array.
    pub(super) fn warn_broken_array(&mut self, arguments: &[Argument]) {
        let Some(Argument::Text(first) | Argument::Word(first)) = arguments.first() else { return };
        if !first.text.starts_with('[') {
            return;
        }
        let whole =
            Piece { text: self.text[first.start..].to_owned(), start: first.start, end: self.text.len() };
        if let Some(hint) = broken_array(&whole) {
            let span = self.piece_span(&whole);
            let message = "this looks like a JSON array but isn't valid JSON: it is taken as plain text";
            self.report(Diagnostic::warning("invalid-json-form", span, message).hint(hint));
        }
    }

    /// Warns about `\ # comment`: the escape character isn't the last one, so the line ends there.
    fn warn_comment_after_escape(&mut self) {
        let mut at = 0;
        while let Some(found) = self.text[at..].find(self.escape) {
            let escape = at + found;
            at = escape + self.escape.len_utf8();
            let rest = self.text[at..].trim_start_matches([' ', '\t']);
            // An escaped blank before `#` within a line is followed by other words only by accident.
            if rest.starts_with('#')
                && rest.len() < self.text.len() - at
                && !self.text[..escape].ends_with(self.escape)
            {
                let start = self.text.len() - rest.len();
                let span = self.span(escape, start + 1);
                let message = "a comment follows the escape character, so the line does not continue";
                self.report(Diagnostic::warning("inline-comment", span, message).hint(COMMENT_HINT));
                return;
            }
        }
    }
}

/// What is wrong with a text that looks like a JSON array; `None` when it doesn't look like one.
///
/// `[ "$a" = b ]` is a test of the shell: with a blank after `[`, the first word must end at `,` or `]`.
fn broken_array(piece: &Piece) -> Option<&'static str> {
    let inside = piece.text.strip_prefix('[')?;
    let trimmed = inside.trim_start();
    let open = trimmed.chars().next().filter(|c| *c == '"' || WRONG_QUOTES.contains(c))?;
    let word = &trimmed[open.len_utf8()..];
    let close = word.find(|c: char| c == open || WRONG_QUOTES.contains(&c) || c == '"')?;
    let after = word[close..].chars().skip(1).find(|c| !c.is_whitespace());
    if trimmed.len() < inside.len() && !matches!(after, Some(',' | ']')) {
        return None;
    }
    let comment = piece.text.rsplit_once(']').is_some_and(|(_, rest)| rest.trim_start().starts_with('#'));
    if comment {
        return Some(COMMENT_HINT);
    }
    if piece.text.rsplit_once(']').is_some_and(|(_, rest)| rest.trim_start().starts_with("<<")) {
        return Some("the JSON form takes no heredoc: write the command without brackets");
    }
    if !piece.text.ends_with(']') {
        return (open != '"' || after == Some(','))
            .then_some("JSON arrays end with `]` and use double quotes");
    }
    Some(if open == '"' {
        "look for a missing or trailing comma, or an unescaped `\\`"
    } else {
        "JSON strings need double quotes"
    })
}
