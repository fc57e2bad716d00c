//! Looking a Dockerfile through without building it: its mistakes, and what a target takes.
//!
//! It is lowered as for a build, but a base that isn't at hand stops nothing: the stage then stands on an
//! unknown image, whose variables nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use kiln_grammar::Diagnostic;
use kiln_grammar::ast::{Declaration, Dockerfile, Instruction, Kind, Span, Stage, Word};
use kiln_grammar::mount::{self, MountKind};
use kiln_grammar::suggest;
use kiln_grammar::word::{self, Lookup};

use super::lower::{Find, Lowering};
use super::{Base, BaseRequest, Bases, Parameters};

/// What looking a Dockerfile through has found.
#[derive(Debug)]
pub struct Checked {
    /// The mistakes, warnings among them, in the order of the file.
    pub found: Vec<Diagnostic>,
    /// Bases that are not known: what depends on them was left out.
    pub unknown: BTreeSet<String>,
}

/// Looks `tree` through without bringing a base: the stages that the target needs, all without a target.
///
/// `find` gives the bases that are at hand.
pub fn check(
    tree: &Dockerfile,
    parameters: &Parameters,
    find: &mut dyn FnMut(&BaseRequest) -> Option<Base>,
) -> Checked {
    let bases = Bases::new();
    let mut lowering = looked_at(tree, &bases, parameters, find, true);
    lowering.end();
    Checked { found: lowering.mistakes(), unknown: lowering.unknown }
}

/// What a target takes from the command line, and the caches that it keeps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The stage's name; empty when it has none.
    pub name: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// The ARGs, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// The secrets, with whether a build without them fails.
    pub secrets: Vec<Asked>,
    /// The ssh agents.
    pub agents: Vec<Asked>,
    /// The ids of the cache mounts.
    pub caches: Vec<Asked>,
}

/// An ARG that the target uses.
#[derive(Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// The value that it has with this command line.
    pub value: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// What a mount asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// Whether a build without it fails.
    pub required: bool,
    /// Where it is asked for first.
    pub span: Span,
}

/// Says what the target takes.
///
/// # Errors
/// The mistakes of the stages that it needs.
pub fn outline(
    tree: &Dockerfile,
    parameters: &Parameters,
    find: &mut dyn FnMut(&BaseRequest) -> Option<Base>,
) -> Result<Outline, Vec<Diagnostic>> {
    let bases = Bases::new();
    let mut lowering = looked_at(tree, &bases, parameters, find, false);
    if !lowering.errors.is_empty() {
        return Err(lowering.mistakes());
    }
    let target = lowering.target().unwrap_or_default();
    let stage = &tree.stages[target];
    let mut asked = Mounts::default();
    for index in &lowering.reached {
        let scope = &lowering.states[index].scope;
        asked.of_stage(&tree.stages[*index], tree.directives.escape, scope);
    }
    Ok(Outline {
        name: stage.name.as_ref().map(|name| name.text.clone()).unwrap_or_default(),
        description: stage.description.clone(),
        args: args(tree, &lowering),
        secrets: sorted(asked.secrets),
        agents: sorted(asked.agents),
        caches: sorted(asked.caches),
    })
}

/// Lowers what is to be looked at.
fn looked_at<'a>(
    tree: &'a Dockerfile,
    bases: &'a Bases,
    parameters: &'a Parameters,
    find: Find<'a>,
    all: bool,
) -> Lowering<'a> {
    let mut lowering = Lowering::new(tree, bases, parameters);
    lowering.find = Some(find);
    lowering.begin();
    match lowering.target() {
        Some(target) if !all || parameters.target.is_some() => drop(lowering.stages(target)),
        Some(_) => (0..tree.stages.len()).for_each(|index| drop(lowering.stage(index))),
        None => {}
    }
    lowering
}

/// The ARGs of the stages that were looked at, and the global ones that these use.
fn args(tree: &Dockerfile, lowering: &Lowering<'_>) -> Vec<OutlineArg> {
    let global = |name: &str| tree.globals.iter().rfind(|found| found.name.text == name);
    let mut found: BTreeMap<&str, OutlineArg> = BTreeMap::new();
    let mut wanted: Vec<String> = Vec::new();
    for index in lowering.reached.iter().rev() {
        let stage = &tree.stages[*index];
        let scope = &lowering.states[index].scope;
        for word in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten() {
            wanted.extend(word::variables(&word.text, tree.directives.escape));
        }
        for declaration in declarations(stage) {
            let name = declaration.name.text.as_str();
            if declaration.default.is_none() && global(name).is_some() {
                wanted.push(name.to_owned());
            } else if declaration.default.is_some() || !lowering.platform.contains_key(name) {
                let value = scope.args.iter().find(|(known, _)| known == name);
                let value = value.and_then(|(_, value)| value.clone());
                found.entry(name).or_insert_with(|| outline_arg(declaration, value));
            }
        }
    }
    while let Some(name) = wanted.pop() {
        let Some(declaration) = global(&name).filter(|_| !found.contains_key(name.as_str())) else {
            continue;
        };
        let default = declaration.default.as_ref();
        wanted.extend(
            default.map(|word| word::variables(&word.text, tree.directives.escape)).into_iter().flatten(),
        );
        found.insert(&declaration.name.text, outline_arg(declaration, lowering.globals.get(&name)));
    }
    let mut args: Vec<OutlineArg> = found.into_values().collect();
    args.sort_by_key(|arg| arg.span.start);
    args
}

fn outline_arg(declaration: &Declaration, value: Option<String>) -> OutlineArg {
    OutlineArg {
        name: declaration.name.text.clone(),
        value: value.unwrap_or_default(),
        description: declaration.description.clone(),
        span: declaration.name.span,
    }
}

fn declarations(stage: &Stage) -> impl Iterator<Item = &Declaration> {
    let args = stage.instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(declarations) => Some(declarations),
        _ => None,
    });
    args.flatten()
}

/// What the mounts of RUN steps ask for, by id.
#[derive(Debug, Default)]
struct Mounts {
    secrets: BTreeMap<String, Asked>,
    agents: BTreeMap<String, Asked>,
    caches: BTreeMap<String, Asked>,
    /// True when a mount's text has variables.
    variable: bool,
}

impl Mounts {
    fn of_stage(&mut self, stage: &Stage, escape: char, vars: &dyn Lookup) {
        for instruction in &stage.instructions {
            self.of_instruction(instruction, escape, vars);
        }
    }

    fn of_instruction(&mut self, instruction: &Instruction, escape: char, vars: &dyn Lookup) {
        match &instruction.kind {
            Kind::Run(run) => run.mounts.iter().for_each(|word| self.of_mount(word, escape, vars)),
            Kind::Onbuild(onbuild) => {
                onbuild.trigger.iter().for_each(|trigger| self.of_instruction(trigger, escape, vars));
            }
            _ => {}
        }
    }

    fn of_mount(&mut self, word: &Word, escape: char, vars: &dyn Lookup) {
        self.variable |= word.text.contains('$');
        let Ok(mount) = mount::parse(word, escape, vars) else { return };
        let (known, id, required) = match mount.kind {
            MountKind::Secret { id, required, .. } => (&mut self.secrets, id, required),
            MountKind::Ssh { id, required, .. } => (&mut self.agents, id, required),
            MountKind::Cache { id, .. } => (&mut self.caches, id, false),
            _ => return,
        };
        let asked = known.entry(id.clone()).or_insert(Asked { id, required, span: word.span });
        asked.required |= required;
    }
}

fn sorted(asked: BTreeMap<String, Asked>) -> Vec<Asked> {
    let mut asked: Vec<Asked> = asked.into_values().collect();
    asked.sort_by_key(|one| one.span.start);
    asked
}

/// Warns of secrets and ssh agents that no RUN of the file asks for.
///
/// Those that an ADD may take by itself, as tokens for git and http, are not counted.
pub fn unasked(tree: &Dockerfile, secrets: &[&str], agents: &[&str]) -> Vec<Diagnostic> {
    if secrets.is_empty() && agents.is_empty() {
        return Vec::new();
    }
    let mut asked = Mounts::default();
    for stage in &tree.stages {
        asked.of_stage(stage, tree.directives.escape, &|_: &str| None);
    }
    let tokens = ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER", "HTTP_AUTH_TOKEN_", "HTTP_AUTH_HEADER_"];
    let secrets = secrets.iter().filter(|id| !tokens.iter().any(|token| id.starts_with(token)));
    let all = tree.stages.iter().flat_map(|stage| &stage.instructions);
    let adds = all.into_iter().any(|instruction| matches!(instruction.kind, Kind::Add(_)));
    let agents = agents.iter().filter(|id| !(adds && **id == "default"));
    let mut found = Vec::new();
    if !asked.variable {
        found.extend(secrets.filter_map(|id| unused("secret", id, &asked.secrets)));
        found.extend(agents.filter_map(|id| unused("ssh", id, &asked.agents)));
    }
    tree.checks.keep(&mut found);
    found
}

fn unused(kind: &str, id: &str, asked: &BTreeMap<String, Asked>) -> Option<Diagnostic> {
    if asked.contains_key(id) {
        return None;
    }
    let code = if kind == "secret" { "unused-secret" } else { "unused-ssh" };
    let hint = match suggest::closest(id, asked.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("a step asks for it with `RUN --mount=type={kind},id={id}`"),
    };
    let message = format!("--{kind} `{id}` is not asked for by any RUN");
    Some(Diagnostic::warning(code, Span::NOWHERE, message).hint(hint))
}

#[cfg(test)]
mod tests;
