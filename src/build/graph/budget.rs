//! How much one Dockerfile may make lowering hold.
//!
//! Each RUN keeps its own environment, each stage on a stage a copy of its state, and a word may grow to a
//! mebibyte: a small file that uses this on purpose would fill the memory. Real files stay far below.

use kiln_grammar::ast::{Span, Word};

use super::lower::{Lowering, Stop};
use super::scope::Scope;

/// What expanded words, environments and copied states may add up to.
const MAX_BYTES: usize = 128 << 20;

/// What an entry of a list takes beside its text.
const ENTRY_BYTES: usize = 48;

impl Lowering<'_> {
    /// Counts bytes that the graph will hold; too many are one mistake, where they became too many.
    pub(super) fn charge(&mut self, bytes: usize, span: Span) -> Result<(), Stop> {
        let before = self.charged;
        self.charged = before.saturating_add(bytes);
        if self.charged <= MAX_BYTES {
            return Ok(());
        }
        if before > MAX_BYTES {
            return Err(Stop::Wrong);
        }
        let message = format!("the values of all steps together take more than {MAX_BYTES} bytes");
        let hint = "use fewer or shorter variables: each RUN and each stage has all that were set before it";
        Err(self.error("too-much-data", span, message, Some(hint.to_owned())))
    }

    /// Expands a word with the variables that FROM sees; a mistake is noted and gives `None`.
    pub(super) fn expand_global(&mut self, word: &Word) -> Option<String> {
        let globals = std::mem::take(&mut self.globals);
        let text = self.expand(word, &globals);
        self.globals = globals;
        text
    }
}

/// What the variables of a scope take: the environment once, ARGs also in the history.
pub(super) fn weight(scope: &Scope) -> usize {
    let text = |name: &String, value: &str| name.len() + value.len() + ENTRY_BYTES;
    let env: usize = scope.env.iter().map(|(name, value)| text(name, value)).sum();
    let args = scope.args.iter().map(|(name, value)| 2 * text(name, value.as_deref().unwrap_or_default()));
    env + args.sum::<usize>()
}
