//! What the name of a `--from` (or of a mount's `from=`) stands for.

use kiln_grammar::ast::Word;
use kiln_grammar::word;

use super::lower::{Lowering, Stop};
use super::scope::Scope;
use super::{Input, VertexId};

impl Lowering<'_> {
    /// What the `--from` of a copy names, seen from `scope`; it may be a variable, which no peer has.
    pub(super) fn name_of_from(&mut self, word: &Word, scope: &Scope) -> Result<Word, Stop> {
        let text = self.expand(word, scope).ok_or(Stop::Wrong)?;
        if !text.trim().is_empty() {
            return Ok(Word { text, span: word.span });
        }
        let message = format!("name of --from ({}) should not be blank", word.text);
        let hint = word::variables(&word.text, self.tree.directives.escape).first().map(|name| {
            format!(
                "give it a value with `--build-arg {name}=…` or `ARG {name}=…` before this line in its stage"
            )
        });
        Err(self.error("blank-from", word.span, message, hint))
    }

    /// The files that `word`, expanded, names, seen from the stage `index`: an earlier stage by name or
    /// number, else a named context, else an image.
    ///
    /// `verb` is what is done with them, for messages: `copy`, `mount`.
    pub(super) fn files_of(&mut self, word: &Word, index: usize, verb: &str) -> Result<Input, Stop> {
        if let Some(stage) = self.find_stage(&word.text, index) {
            return self.end_of(stage, word.span).map(Input::Vertex);
        }
        if let Some(input) = self.context_files(&word.text, word.span)? {
            return Ok(input);
        }
        self.refuse_other_stages(word, index, verb)?;
        if word.text == "scratch" {
            return Ok(Input::Vertex(self.scratch(word.span)));
        }
        self.image_files(word).map(Input::Vertex)
    }

    /// A stage that isn't above is no image's name either.
    fn refuse_other_stages(&mut self, word: &Word, index: usize, verb: &str) -> Result<(), Stop> {
        let name = &word.text;
        if self.find_stage(name, index + 1) == Some(index) {
            let message = format!("circular dependency detected on stage: {name}");
            let hint = Some("--from names another stage or an image".to_owned());
            return Err(self.error("circular-stage", word.span, message, hint));
        }
        if self.find_stage(name, self.tree.stages.len()).is_some() {
            let message =
                format!("cannot {verb} from stage `{name}`, it needs to be defined before current stage");
            return Err(self.error("later-stage", word.span, message, None));
        }
        if name.parse::<usize>().is_ok() {
            let message = format!("invalid stage index {name}: there are {index} stages before this one");
            return Err(self.error("bad-stage-index", word.span, message, None));
        }
        Ok(())
    }

    /// The files of an image that is no stage's base.
    fn image_files(&mut self, word: &Word) -> Result<VertexId, Stop> {
        let request = self.image_request(&word.text, self.parameters.platform.clone(), word.span)?;
        let base = self.image(&request, word.span)?;
        let name = format!("FROM {}", request.shown());
        Ok(self.source(&request, &base, name, word.span))
    }
}
