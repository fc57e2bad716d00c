//! What the name of a `--from` (or of a mount's `from=`) stands for.

use kiln_grammar::ast::Word;
use kiln_grammar::word;

use super::lower::{Lowering, Stop};
use super::{Input, VertexId};

impl Lowering<'_> {
    /// The files that `word` names, seen from the stage `index`: an earlier stage by name or number, else an image.
    ///
    /// `verb` is what is done with them, for messages: `copy`, `mount`.
    pub(super) fn files_of(&mut self, word: &Word, index: usize, verb: &str) -> Result<Input, Stop> {
        if !word::variables(&word.text, self.tree.directives.escape).is_empty() {
            let hint = Some(format!("define a stage: `FROM {} AS alias` and use --from=alias", word.text));
            let message = "variable expansion is not supported for --from".to_owned();
            return Err(self.error("variable-from", word.span, message, hint));
        }
        if let Some(stage) = self.find_stage(&word.text, index) {
            return self.end_of(stage).map(Input::Vertex);
        }
        self.refuse_other_stages(word, index, verb)?;
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
        let name = format!("FROM {}", request.reference);
        Ok(self.source(&request, &base, name, word.span))
    }
}
