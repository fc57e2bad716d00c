//! `KEY=value`: ENV, LABEL and ARG.

use super::{COMMENT_HINT, Reported, Scope};
use crate::ast::{Declaration, Pair};
use crate::diagnostic::{Diagnostic, quote};
use crate::keyword::Keyword;
use crate::parse::{Argument, Piece};

impl Scope<'_, '_> {
    /// The pairs of ENV or LABEL, at least one.
    pub(super) fn pairs(
        &mut self,
        keyword: Keyword,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Pair>, Reported> {
        let name = keyword.name();
        let mut pairs = Vec::with_capacity(arguments.len());
        let mut wrong = false;
        let mut comment = false;
        for argument in arguments {
            let (key, value, legacy) = match argument {
                Argument::Pair(key, Some(value)) => (key, value, false),
                Argument::Legacy(key, Some(value)) => (key, value, true),
                Argument::Legacy(key, None) => {
                    let span = self.piece_span(&key);
                    let message = format!("{name} must have two arguments");
                    let hint = format!("write `{name} {}=<value>`", key.text);
                    return self.fail(Diagnostic::error("argument-count", span, message).hint(hint));
                }
                Argument::Stray(piece) => {
                    wrong = true;
                    // The words of one comment are one mistake.
                    if !comment {
                        comment = piece.text.starts_with('#');
                        self.stray(&piece, comment);
                    }
                    continue;
                }
                _ => continue,
            };
            wrong |= self.blank_name(keyword, &key, &value).is_err();
            pairs.push(Pair { key: self.word(&key), value: self.word(&value), legacy });
        }
        match (wrong, pairs.is_empty()) {
            (true, _) => Err(Reported),
            (false, true) => self.missing(format!("{name} requires at least one argument")),
            (false, false) => Ok(pairs),
        }
    }

    fn stray(&mut self, piece: &Piece, comment: bool) {
        let span = self.piece_span(piece);
        let message =
            format!("syntax error - can't find = in {}. Must be of the form: name=value", quote(&piece.text));
        let hint = if comment { COMMENT_HINT } else { "put a value with blanks in quotes: name=\"a b\"" };
        self.report(Diagnostic::error("not-a-pair", span, message).hint(hint));
    }

    fn blank_name(&mut self, keyword: Keyword, key: &Piece, value: &Piece) -> Result<(), Reported> {
        if !key.text.is_empty() {
            return Ok(());
        }
        let span = self.span(key.start, value.end);
        self.fail(Diagnostic::error("blank", span, format!("{} names can not be blank", keyword.name())))
    }

    /// The names of ARG, at least one.
    pub(super) fn declarations(&mut self, arguments: Vec<Argument>) -> Result<Vec<Declaration>, Reported> {
        let mut declarations = Vec::with_capacity(arguments.len());
        let mut wrong = false;
        for argument in arguments {
            let Argument::Pair(key, value) = argument else { continue };
            wrong |= self.blank_name(Keyword::Arg, &key, value.as_ref().unwrap_or(&key)).is_err();
            let default = value.map(|value| self.word(&value));
            let description = self.description(&key.text);
            declarations.push(Declaration { name: self.word(&key), default, description });
        }
        let names: Vec<&str> = declarations.iter().map(|found| found.name.text.as_str()).collect();
        self.check_description(Keyword::Arg, &names);
        match (wrong, declarations.is_empty()) {
            (true, _) => Err(Reported),
            (false, true) => self.missing("ARG requires at least one argument"),
            (false, false) => Ok(declarations),
        }
    }
}
