//! COPY and ADD.

use super::{Reported, Scope};
use crate::ast::{Add, Copy, CopyFlags, CopySource, Word};
use crate::diagnostic::Diagnostic;
use crate::flags::Flags;
use crate::keyword::Keyword;
use crate::parse::{Argument, Piece};

/// A path, or an inline file.
enum Item {
    Path(Piece),
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
        let name = keyword.name();
        let Some(destination) = items.pop() else {
            return self.missing(format!("{name} requires at least one argument"));
        };
        let destination = match destination {
            Item::Path(piece) if !items.is_empty() => self.path(&piece),
            Item::Path(piece) => {
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

    /// The arguments of either form.
    fn items(&mut self, arguments: Vec<Argument>) -> Result<Vec<Item>, Reported> {
        let mut items = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match argument {
                Argument::Array(elements) => {
                    items.extend(self.strings(&elements)?.into_iter().map(Item::Path));
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
            Item::Path(piece) => CopySource::Path(self.path(piece)),
            Item::Heredoc(piece) => match self.heredoc(piece) {
                Some(cut) => CopySource::Heredoc(cut.heredoc.clone()),
                None => CopySource::Path(self.plain_word(piece)),
            },
        }
    }

    /// A path word; a quote that blanks have torn apart gets a hint.
    fn path(&mut self, piece: &Piece) -> Word {
        let before = self.diagnostics.len();
        let word = self.word(piece);
        if let Some(mistake) =
            self.diagnostics.get_mut(before).filter(|found| found.message.contains("quote"))
        {
            mistake.hint =
                Some("paths with blanks or quotes need the JSON form: [\"a b\", \"/destination\"]".into());
        }
        word
    }
}

fn copy_flags(flags: &mut Flags) -> CopyFlags {
    CopyFlags {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        excludes: flags.list("exclude"),
    }
}
