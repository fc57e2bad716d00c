//! Rules about single instructions and their neighbours in a stage.

use super::{Linter, keyword_span};
use crate::ast::{CopySource, Instruction, Kind, Pair, Span, Stage, Word};
use crate::diagnostic::quote;
use crate::instruction::COMMENT_HINT;

/// Parts of a name that tell of a secret, and parts that say that it is none.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Tells whether a variable of this name probably holds a secret.
pub fn names_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

impl Linter<'_> {
    /// Looks at a stage.
    pub(super) fn stage_instructions(&mut self, stage: &Stage) {
        for instruction in &stage.instructions {
            self.instruction(instruction);
        }
        self.dead(stage, "CMD", |kind| matches!(kind, Kind::Cmd(_)));
        self.dead(stage, "ENTRYPOINT", |kind| matches!(kind, Kind::Entrypoint(_)));
        self.dead(stage, "HEALTHCHECK", |kind| matches!(kind, Kind::Healthcheck(_)));
    }

    fn instruction(&mut self, instruction: &Instruction) {
        match &instruction.kind {
            Kind::Env(pairs) => self.pairs(pairs, "ENV"),
            Kind::Label(pairs) => self.pairs(pairs, "LABEL"),
            Kind::Arg(declarations) => {
                for declaration in declarations {
                    self.secret(&declaration.name, "ARG");
                    self.comment_word(&declaration.name);
                }
            }
            Kind::Expose(ports) => ports.iter().for_each(|port| self.port(port)),
            Kind::Volume(words) => words.iter().for_each(|word| self.comment_word(word)),
            Kind::Copy(copy) => self.sources(&copy.sources),
            Kind::Add(add) => self.sources(&add.sources),
            Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) => self.comment_tail(word),
            Kind::Maintainer(_) => {
                let span = keyword_span(instruction.span, &instruction.original);
                let hint = "use LABEL org.opencontainers.image.authors=\"…\"".to_owned();
                let message = "maintainer instruction is deprecated in favor of using label";
                self.warn("maintainer-deprecated", span, message, Some(hint));
            }
            Kind::Onbuild(onbuild) => {
                if let Some(trigger) = &onbuild.trigger {
                    self.instruction(trigger);
                }
            }
            _ => {}
        }
    }

    /// All but the last of an instruction that counts once.
    fn dead(&mut self, stage: &Stage, name: &str, is: impl Fn(&Kind) -> bool) {
        let found: Vec<&Instruction> = stage.instructions.iter().filter(|found| is(&found.kind)).collect();
        let Some((_, dead)) = found.split_last() else { return };
        for instruction in dead {
            let span = keyword_span(instruction.span, &instruction.original);
            let message = format!(
                "multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            self.warn("multiple-instructions-disallowed", span, message, None);
        }
    }

    fn pairs(&mut self, pairs: &[Pair], name: &str) {
        for pair in pairs {
            if name == "ENV" {
                self.secret(&pair.key, name);
            }
            self.comment_word(&pair.key);
            if pair.legacy {
                let span = Span { start: pair.key.span.start, end: pair.value.span.end };
                let message = format!(
                    "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                );
                let (key, value) = (&pair.key.text, &pair.value.text);
                let hint = match value.strip_prefix("= ") {
                    Some(value) => format!("write `{key}={value}`: no blanks around `=`"),
                    None if value.contains(['"', '\'', '\\']) => format!("write `{key}=<value>`"),
                    None if value.contains([' ', '\t']) => format!("write `{key}=\"{value}\"`"),
                    None => format!("write `{key}={value}`"),
                };
                self.warn("legacy-key-value-format", span, message, Some(hint));
                self.comment_tail(&pair.value);
            }
        }
    }

    fn secret(&mut self, name: &Word, instruction: &str) {
        // A name with variables is looked at when they are filled in.
        if names_secret(&name.text) && !name.text.contains('$') {
            let message = format!(
                "do not use ARG or ENV instructions for sensitive data ({instruction} {})",
                quote(&name.text)
            );
            let hint = "use RUN --mount=type=secret".to_owned();
            self.warn("secrets-used-in-arg-or-env", name.span, message, Some(hint));
        }
    }

    fn port(&mut self, port: &Word) {
        self.comment_word(port);
        let Some((number, protocol)) = port.text.rsplit_once('/') else {
            if port.text.contains(':') && !port.text.contains('$') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found {}",
                    quote(&port.text)
                );
                self.warn("expose-invalid-format", port.span, message, None);
            }
            return;
        };
        if number.contains(':') && !port.text.contains('$') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found {}",
                quote(&port.text)
            );
            self.warn("expose-invalid-format", port.span, message, None);
        }
        let lower = protocol.to_ascii_lowercase();
        if lower != protocol && !protocol.contains('$') {
            let message =
                format!("defined protocol {} in EXPOSE instruction should be lowercase", quote(&port.text));
            self.warn("expose-proto-casing", port.span, message, Some(format!("write `{number}/{lower}`")));
        }
    }

    fn sources(&mut self, sources: &[CopySource]) {
        for source in sources {
            if let CopySource::Path(word) = source {
                self.comment_word(word);
            }
        }
    }

    /// A word that begins with `#`, as if a comment could follow an instruction.
    fn comment_word(&mut self, word: &Word) {
        if word.text.starts_with('#') {
            let message = "`#` does not start a comment here: it is a part of the instruction";
            self.warn("inline-comment", word.span, message, Some(COMMENT_HINT.to_owned()));
        }
    }

    /// A ` #` in a text that takes the rest of the line.
    fn comment_tail(&mut self, word: &Word) {
        if word.text.contains(" #") || word.text.contains("\t#") {
            let message = "`#` does not start a comment here: it is a part of the instruction";
            self.warn("inline-comment", word.span, message, Some(COMMENT_HINT.to_owned()));
        }
    }
}
