//! COPY and ADD: sources, destination and flags, expanded.

use kiln_grammar::ast::{self, CopyFlags, Instruction, Span, Word};
use kiln_grammar::word;

use super::lower::{Lowering, Stop};
use super::stage::StageState;
use super::{Chmod, ContextId, CopySource, CopySpec, Input, OpSpec, Vertex, history, remote};

impl StageState {
    pub(super) fn copy(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        copy: &ast::Copy,
    ) -> Result<(), Stop> {
        let from = match &copy.from {
            Some(word) => {
                let name = lowering.name_of_from(word, &self.scope)?;
                lowering.files_of(&name, self.index, "copy")?
            }
            None => Input::Context(ContextId::MAIN),
        };
        let mut spec = self.copy_spec(lowering, &copy.sources, &copy.destination, &copy.flags)?;
        spec.reset_owner = matches!(from, Input::Context(_));
        spec.parents = copy.parents;
        let refused = spec.sources.iter().find_map(|source| match source {
            CopySource::Path(path) => remote::refused_for_copy(path),
            _ => None,
        });
        if let Some(what) = refused.filter(|_| spec.reset_owner) {
            let hint = Some("use ADD for remote files".to_owned());
            let message = format!("source can't be {what} for COPY");
            return Err(lowering.error("copy-url", instruction.span, message, hint));
        }
        self.transfer(lowering, instruction, "COPY", spec, (&copy.destination, &copy.flags), vec![from])
    }

    pub(super) fn add(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        add: &ast::Add,
    ) -> Result<(), Stop> {
        let mut spec = self.copy_spec(lowering, &add.sources, &add.destination, &add.flags)?;
        spec.reset_owner = true;
        spec.unpack = add.unpack.unwrap_or(true);
        let reads = self.add_reads(lowering, instruction, add, &mut spec)?;
        self.transfer(lowering, instruction, "ADD", spec, (&add.destination, &add.flags), reads)
    }

    fn transfer(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        keyword: &str,
        spec: CopySpec,
        (destination, flags): (&Word, &CopyFlags),
        reads: Vec<Input>,
    ) -> Result<(), Stop> {
        let shown_destination = lowering.expand(destination, &self.scope).ok_or(Stop::Wrong)?;
        self.check_destination(lowering, &spec, destination);
        if reads.contains(&Input::Context(ContextId::MAIN)) {
            lowering.check_sources(&spec, instruction);
        }
        let chmod = flags.chmod.as_ref().and_then(|word| lowering.expand(word, &self.scope));
        let created_by = history::copy(keyword, &spec, chmod.as_deref(), &shown_destination);
        let shown = (instruction.original.as_str(), instruction.span);
        match flags.link {
            true => self.link(lowering, spec, reads, shown, created_by),
            false => self.step(lowering, OpSpec::Copy(spec), reads, shown, created_by),
        }
        Ok(())
    }

    /// A copy that doesn't see the stage: its layer is made on nothing, and put on the stage afterwards.
    ///
    /// So it is the same layer whatever the stage stands on, and nothing waits for the stage to make it. A `--chown`
    /// by name asks the stage, but only for the numbers.
    ///
    /// With `--chmod` BuildKit makes a plain copy of it, which goes into a directory that is there, follows links
    /// and leaves the directories above as they are. So such a copy stands on the way to its destination: another
    /// base with the same way changes nothing.
    fn link(
        &mut self,
        lowering: &mut Lowering<'_>,
        spec: CopySpec,
        mut reads: Vec<Input>,
        (shown, span): (&str, Span),
        created_by: String,
    ) {
        let name = self.step_name(lowering, shown, &OpSpec::Merge);
        let on_stage = |op, reads, name: &str| Vertex {
            op,
            rootfs: Some(self.rootfs),
            reads,
            name: name.to_owned(),
            span,
            variables: Vec::new(),
        };
        if let Some(owner) = spec.chown.clone().filter(|owner| has_names(owner)) {
            let owner = lowering.vertex(on_stage(OpSpec::Owner(owner), Vec::new(), &name));
            reads.push(Input::Vertex(owner));
        }
        let ground = match spec.chmod {
            Some(_) => lowering.vertex(on_stage(OpSpec::Way(spec.destination.clone()), Vec::new(), &name)),
            None => lowering.scratch(span),
        };
        let op = OpSpec::Copy(spec);
        let variables = self.scope.used(shown, lowering.tree.directives.escape);
        let copy = Vertex { op, rootfs: Some(ground), reads, name: name.clone(), span, variables };
        let copy = lowering.vertex(copy);
        let merged = lowering.vertex(on_stage(OpSpec::Merge, vec![Input::Vertex(copy)], &name));
        self.stand_on(merged, created_by);
    }

    fn copy_spec(
        &self,
        lowering: &mut Lowering<'_>,
        sources: &[ast::CopySource],
        destination: &Word,
        flags: &CopyFlags,
    ) -> Result<CopySpec, Stop> {
        let mut expanded = Vec::with_capacity(sources.len());
        for source in sources {
            expanded.push(self.copy_source(lowering, source)?);
        }
        let destination = lowering.expand(destination, &self.scope).ok_or(Stop::Wrong)?;
        let mut excludes = Vec::with_capacity(flags.excludes.len());
        for pattern in &flags.excludes {
            excludes.push(lowering.expand(pattern, &self.scope).ok_or(Stop::Wrong)?);
        }
        Ok(CopySpec {
            sources: expanded,
            destination: self.absolute(&destination),
            chown: self.chown(lowering, flags.chown.as_ref())?,
            chmod: self.chmod(lowering, flags.chmod.as_ref())?,
            excludes,
            reset_owner: true,
            unpack: false,
            parents: false,
        })
    }

    fn copy_source(&self, lowering: &mut Lowering<'_>, source: &ast::CopySource) -> Result<CopySource, Stop> {
        match source {
            ast::CopySource::Path(path) => {
                Ok(CopySource::Path(lowering.expand(path, &self.scope).ok_or(Stop::Wrong)?))
            }
            ast::CopySource::Heredoc(heredoc) if !heredoc.expand => {
                Ok(CopySource::Inline { name: heredoc.name.clone(), body: heredoc.body.clone() })
            }
            ast::CopySource::Heredoc(heredoc) => {
                // BuildKit's lexer reads bodies with `\\`, whatever `# escape` says.
                let expand = |vars: &dyn word::Lookup| word::expand_body(&heredoc.body, '\\', vars);
                let body = lowering.watch(&self.scope, heredoc.span, expand).map_err(|error| {
                    lowering.error("bad-substitution", heredoc.span, error.to_string(), None)
                })?;
                Ok(CopySource::Inline { name: heredoc.name.clone(), body })
            }
        }
    }

    fn chown(&self, lowering: &mut Lowering<'_>, word: Option<&Word>) -> Result<Option<String>, Stop> {
        let Some(word) = word else { return Ok(None) };
        let text = lowering.expand(word, &self.scope).ok_or(Stop::Wrong)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn chmod(&self, lowering: &mut Lowering<'_>, word: Option<&Word>) -> Result<Option<Chmod>, Stop> {
        let Some(word) = word else { return Ok(None) };
        let text = lowering.expand(word, &self.scope).ok_or(Stop::Wrong)?;
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(chmod) = Chmod::parse(&text) {
            return Ok(Some(chmod));
        }
        let message =
            format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        let hint = Some("or write changes: `u=rwX,go=rX`, `+x`, `go-w`".to_owned());
        Err(lowering.error("bad-chmod", word.span, message, hint))
    }
}

/// Tells whether an owner (`user[:group]`) isn't all numbers.
fn has_names(owner: &str) -> bool {
    owner.split(':').any(|part| part.bytes().any(|byte| !byte.is_ascii_digit()))
}
