//! COPY and ADD.

use super::{Reported, Scope};
use crate::ast::{Add, Copy, CopyFlags, CopySource, Word};
use crate::diagnostic::{Diagnostic, quote};
use crate::flags::{self, Flags};
use crate::keyword::Keyword;
use crate::lines::first_word;
use crate::parse::{Argument, Piece};

/// A path, or an inline file.
enum Item {
    Path(Piece),
    /// An element of a JSON array.
    Text(Piece),
    Heredoc(Piece),
}

impl Scope<'_, '_> {
    pub(super) fn copy(&mut self, mut flags: Flags, arguments: Vec<Argument>) -> Result<Copy, Reported> {
        let (sources, destination) = self.sources(Keyword::Copy, arguments)?;
        Ok(Copy {
            sources,
            destination,
            from: flags.value("from"),
            parents: flags.switch("parents").unwrap_or(false),
            flags: copy_flags(&mut flags),
        })
    }

    pub(super) fn add(&mut self, mut flags: Flags, arguments: Vec<Argument>) -> Result<Add, Reported> {
        let (sources, destination) = self.sources(Keyword::Add, arguments)?;
        Ok(Add {
            sources,
            destination,
            checksum: flags.value("checksum"),
            keep_git_dir: flags.switch("keep-git-dir").unwrap_or(false),
            unpack: flags.switch("unpack"),
            flags: copy_flags(&mut flags),
        })
    }

    /// The sources and the destination after them.
    fn sources(
        &mut self,
        keyword: Keyword,
        arguments: Vec<Argument>,
    ) -> Result<(Vec<CopySource>, Word), Reported> {
        self.warn_broken_array(&arguments);
        let mut items = self.items(arguments)?;
        for item in &items {
            if let Item::Path(piece) = item {
                self.warn_misplaced_flag(keyword, piece);
            }
        }
        let name = keyword.name();
        let Some(destination) = items.pop() else {
            return self.missing(format!("{name} requires at least one argument"));
        };
        let destination = match destination {
            Item::Path(piece) if !items.is_empty() => self.path(&piece, PATH_HINT),
            Item::Text(piece) if !items.is_empty() => self.path(&piece, ELEMENT_HINT),
            Item::Path(piece) | Item::Text(piece) => {
                let span = self.piece_span(&piece);
                let message = format!(
                    "{name} requires at least two arguments, but only one was provided. \
                     Destination could not be determined"
                );
                let hint = format!("write `{name} <source> <destination>`");
                return self.fail(Diagnostic::error("argument-count", span, message).hint(hint));
            }
            Item::Heredoc(piece) => {
                let span = self.piece_span(&piece);
                let message = format!("{name} cannot accept a heredoc as a destination");
                return self.fail(Diagnostic::error("heredoc-destination", span, message));
            }
        };
        let sources = items.iter().map(|item| self.source(item)).collect();
        Ok((sources, destination))
    }

    /// Warns about a word that its writer took for a flag.
    pub(super) fn warn_misplaced_flag(&mut self, keyword: Keyword, piece: &Piece) {
        let word = first_word(&piece.text);
        let Some(hint) = flags::misplaced(keyword, word) else { return };
        let span = self.span(piece.start, (piece.start + word.len()).min(piece.end));
        let message = format!("{} looks like a flag, but is an argument here", quote(word));
        self.report(Diagnostic::warning("misplaced-flag", span, message).hint(hint));
    }

    /// The arguments of either form.
    fn items(&mut self, arguments: Vec<Argument>) -> Result<Vec<Item>, Reported> {
        let mut items = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match argument {
                Argument::Array(elements) => {
                    items.extend(self.strings(&elements)?.into_iter().map(Item::Text));
                }
                Argument::Heredoc(piece) if self.heredoc(&piece).is_some() => {
                    items.push(Item::Heredoc(piece))
                }
                Argument::Heredoc(piece) | Argument::Word(piece) => items.push(Item::Path(piece)),
                _ => {}
            }
        }
        Ok(items)
    }

    fn source(&mut self, item: &Item) -> CopySource {
        match item {
            Item::Path(piece) => CopySource::Path(self.path(piece, PATH_HINT)),
            Item::Text(piece) => CopySource::Path(self.path(piece, ELEMENT_HINT)),
            Item::Heredoc(piece) => match self.heredoc(piece) {
                Some(cut) => CopySource::Heredoc(cut.heredoc.clone()),
                None => CopySource::Path(self.plain_word(piece)),
            },
        }
    }

    /// A path word; a quote that isn't closed gets a hint.
    pub(super) fn path(&mut self, piece: &Piece, hint: &str) -> Word {
        let before = self.diagnostics.len();
        let word = self.word(piece);
        if let Some(mistake) =
            self.diagnostics.get_mut(before).filter(|found| found.message.contains("quote"))
        {
            mistake.hint = Some(hint.to_owned());
        }
        word
    }
}

/// Blanks tear a quoted word apart.
const PATH_HINT: &str = "paths with blanks or quotes need the JSON form: [\"a b\", \"/destination\"]";

/// The elements of an array are words too.
pub(super) const ELEMENT_HINT: &str =
    "quotes inside a JSON string are read once more as in a word: write `\\\\'` for a quote of the name";

fn copy_flags(flags: &mut Flags) -> CopyFlags {
    CopyFlags {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        excludes: flags.list("exclude"),
    }
}
