//! A Dockerfile's tree to a graph: which stages are needed, in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kiln_cache::Digest;
use kiln_grammar::ast::{Declaration, Dockerfile, Kind, Span, Stage, Word};
use kiln_grammar::diagnostic::{Diagnostic, Severity};
use kiln_grammar::{suggest, word};

use super::scope::{Scope, platform_args};
use super::stage::StageState;
use super::{ContextId, Graph, OpSpec, SourceSpec, Vertex, VertexId};
use crate::api::{Allow, Layout, NamedContext, NetworkMode};
use crate::oci::{ImageConfig, Platform, Reference};

/// How deep stages that the text doesn't name may need each other: each takes room on the stack.
const MAX_NESTED: usize = 100;

/// What the user chose for this build.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// `--build-arg`, later ones win.
    pub build_args: Vec<(String, String)>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`.
    pub platform: Platform,
    /// The machine's own platform.
    pub build_platform: Platform,
    /// `--network`.
    pub network: NetworkMode,
    /// `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// `--allow`.
    pub allow: Allow,
    /// Proxy variables of the environment.
    pub proxies: Vec<(String, String)>,
    /// What the ignore file hides in the build context.
    pub hidden: Hidden,
    /// `--build-context`; the first has the id 1.
    pub contexts: Vec<NamedContext>,
    /// `--no-cache-filter`: stages, by name or number, whose steps run anew.
    pub anew: Vec<String>,
}

/// Tells which paths of the build context are hidden; none by default.
#[derive(Clone, Default)]
pub struct Hidden(Option<Arc<Tells>>);

/// Tells whether a path is hidden.
type Tells = dyn Fn(&str) -> bool + Send + Sync;

impl Hidden {
    /// Asks `tells` of a path without a slash in front.
    pub fn new(tells: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tells)))
    }

    pub(super) fn hides(&self, path: &str) -> bool {
        self.0.as_ref().is_some_and(|tells| tells(path))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// An image that lowering needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseRequest {
    /// Which image.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Where it is, if it is neither in the store nor in a registry.
    pub layout: Option<Box<Layout>>,
}

impl BaseRequest {
    /// Returns it as the progress shows it.
    pub fn shown(&self) -> String {
        match &self.layout {
            None => self.reference.to_string(),
            Some(layout) => {
                let image = layout
                    .image
                    .as_ref()
                    .map(|image| format!("{}{image}", if image.contains(':') { '@' } else { ':' }));
                format!("oci-layout://{}{}", layout.folder.display(), image.unwrap_or_default())
            }
        }
    }
}

/// An image that has to be brought, and the instruction that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which image.
    pub request: BaseRequest,
    /// Where its name stands.
    pub span: Span,
}

/// An image that is in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// Its id.
    pub image: Digest,
    /// Its config.
    pub config: ImageConfig,
}

/// The images known so far.
pub type Bases = HashMap<BaseRequest, Base>;

/// What lowering gave.
#[derive(Debug)]
pub enum Lowered {
    /// These images are needed first.
    Missing(Vec<Wanted>),
    /// The graph.
    Ready(Box<Graph>),
}

/// Why lowering stopped, inside this module.
#[derive(Clone)]
pub(super) enum Stop {
    /// An image has to be known first.
    Missing(Box<Wanted>),
    /// The Dockerfile is wrong; the reasons are in `Lowering::errors`.
    Wrong,
}

/// Tells whether `wanted` is the name or the number of a stage.
fn is_named(tree: &Dockerfile, index: usize, wanted: &str) -> bool {
    let name = tree.stages[index].name.as_ref();
    name.is_some_and(|name| name.text.eq_ignore_ascii_case(wanted)) || wanted.parse() == Ok(index)
}

/// Warns of stages that are named and that the file hasn't.
pub fn unknown_stages(tree: &Dockerfile, wanted: &[String]) -> Vec<Diagnostic> {
    let is_unknown = |wanted: &&String| !(0..tree.stages.len()).any(|index| is_named(tree, index, wanted));
    let names = || tree.stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
    let warning = |wanted: &String| {
        let message = format!("--no-cache-filter `{wanted}` is no stage of the Dockerfile");
        let hint = match suggest::closest(wanted, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                format!("its stages are {}, or numbers from 0", names().collect::<Vec<_>>().join(", "))
            }
        };
        let hint =
            if names().next().is_none() { "its stages have numbers only, from 0".to_owned() } else { hint };
        Diagnostic::warning("unknown-stage", Span::NOWHERE, message).hint(hint)
    };
    wanted.iter().filter(is_unknown).map(warning).collect()
}

/// Lowers `tree`, or names the bases that have to be known first, or gives every mistake found.
pub fn lower(tree: &Dockerfile, bases: &Bases, parameters: &Parameters) -> Result<Lowered, Vec<Diagnostic>> {
    let mut lowering = Lowering::new(tree, bases, parameters);
    lowering.begin();
    let target = lowering.target();
    let done = target.filter(|index| lowering.stages(*index));
    if !lowering.errors.is_empty() {
        return Err(lowering.mistakes());
    }
    if !lowering.missing.is_empty() {
        return Ok(Lowered::Missing(lowering.missing));
    }
    let index = done.expect("a target without errors and missing bases was lowered");
    lowering.end();
    if !lowering.errors.is_empty() {
        return Err(lowering.mistakes());
    }
    Ok(Lowered::Ready(Box::new(lowering.finish(index))))
}

/// The work in progress.
pub(super) struct Lowering<'a> {
    pub(super) tree: &'a Dockerfile,
    bases: &'a Bases,
    pub(super) parameters: &'a Parameters,
    /// Names and values that FROM lines see.
    pub(super) globals: Scope,
    /// Values of the platform ARGs, to be redeclared in stages.
    pub(super) platform: BTreeMap<String, String>,
    /// Stages that are done.
    pub(super) states: HashMap<usize, StageState>,
    /// Stages that can't be done: their mistakes are told once, and nothing looks below them again.
    stopped: HashMap<usize, Stop>,
    vertices: Vec<Vertex>,
    /// Those of them that run anew.
    anew: BTreeSet<VertexId>,
    /// Whether what is lowered right now does.
    runs_anew: bool,
    /// Bytes that are held so far: see [`Lowering::charge`].
    pub(super) charged: usize,
    /// Parts of contexts that were made into layers, to be mounted.
    pub(super) parts: HashMap<(ContextId, String), VertexId>,
    missing: Vec<Wanted>,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    /// The FROM whose base brought the trigger that is lowered: the trigger's own places are no places of the file.
    pub(super) within: Option<Span>,
    /// Stages that were looked at.
    pub(super) reached: BTreeSet<usize>,
    /// How many stages are being lowered for the sake of another: see [`MAX_NESTED`].
    nested: usize,
    /// Where images are looked for that are not among the bases, when one that is missing stops nothing.
    pub(super) find: Option<Find<'a>>,
    /// Images that were not found there.
    pub(super) unknown: BTreeSet<String>,
}

/// Looks for an image without bringing it.
pub(super) type Find<'a> = &'a mut dyn FnMut(&BaseRequest) -> Option<Base>;

impl<'a> Lowering<'a> {
    pub(super) fn new(tree: &'a Dockerfile, bases: &'a Bases, parameters: &'a Parameters) -> Self {
        let platform =
            platform_args(&parameters.platform, &parameters.build_platform, parameters.target.as_deref());
        Self {
            tree,
            bases,
            parameters,
            globals: Scope::default(),
            platform,
            states: HashMap::new(),
            stopped: HashMap::new(),
            vertices: Vec::new(),
            anew: BTreeSet::new(),
            runs_anew: false,
            charged: 0,
            parts: HashMap::new(),
            missing: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            within: None,
            reached: BTreeSet::new(),
            nested: 0,
            find: None,
            unknown: BTreeSet::new(),
        }
    }

    /// Does what comes before the first stage.
    pub(super) fn begin(&mut self) {
        self.refuse_foreign_frontend();
        self.refuse_switches();
        self.evaluate_globals();
        self.check_default_bases();
    }

    /// Does what comes after the last one: what nothing uses is told, and `# check=error=true` is obeyed.
    pub(super) fn end(&mut self) {
        self.warn_of_unused_args();
        self.warn_of_unused_contexts();
        let verdict = self.tree.checks.verdict(&self.all_warnings());
        self.errors.extend(verdict);
    }

    fn evaluate_globals(&mut self) {
        for (name, value) in self.platform.clone() {
            let value = self.build_arg(&name).unwrap_or(value);
            self.globals.declare(&name, Some(value));
        }
        for declaration in &self.tree.globals {
            let default = declaration.default.as_ref().and_then(|word| self.expand_global(word));
            let name = &declaration.name.text;
            let value = self.build_arg(name).or(default).or_else(|| self.platform.get(name).cloned());
            self.globals.declare(name, value);
        }
    }

    /// The value of the last `--build-arg` of this name.
    pub(super) fn build_arg(&self, name: &str) -> Option<String> {
        self.parameters.build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    /// The value that `ARG name` takes in a stage: build-arg, own default, global value.
    pub(super) fn arg_value(&mut self, declaration: &Declaration, scope: &Scope) -> Option<String> {
        let default = declaration.default.as_ref().and_then(|word| self.expand(word, scope));
        let name = &declaration.name.text;
        let global =
            || self.globals.args.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
        self.build_arg(name).or(default).or_else(global)
    }

    pub(super) fn target(&mut self) -> Option<usize> {
        let Some(target) = &self.parameters.target else { return Some(self.tree.stages.len() - 1) };
        if let Some(index) = self.find_stage(target, self.tree.stages.len()) {
            return Some(index);
        }
        let names =
            self.tree.stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
        let hint = suggest::closest(target, names).map(|name| format!("did you mean {name}?"));
        let span = self.tree.stages.last().map_or_else(Span::default, |stage| stage.span);
        self.error("unknown-target", span, format!("target stage `{target}` could not be found"), hint);
        None
    }

    /// Finds a stage by name or index among the first `before` ones; the last of a name wins.
    pub(super) fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        self.named_stage(name, before).or_else(|| name.parse().ok().filter(|index| *index < before))
    }

    /// Lowers the stages that `target` needs, inputs first, and tells whether all went well.
    ///
    /// A missing image or a mistake in one stage doesn't keep the others from being looked at.
    pub(super) fn stages(&mut self, target: usize) -> bool {
        let mut well = true;
        for index in self.needed(target) {
            well &= self.stage(index).is_ok();
        }
        well
    }

    /// The stages that `target` needs as far as the text tells, in order. A stage uses earlier ones only.
    ///
    /// What a variable or a trigger of a base names is found when the stage that has it is lowered.
    fn needed(&mut self, target: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::from([target]);
        let mut todo = vec![target];
        while let Some(index) = todo.pop() {
            let stage = &self.tree.stages[index];
            if self.is_replaced(stage) {
                continue;
            }
            let mut names = Vec::new();
            names.extend(word::expand(&stage.base.text, self.tree.directives.escape, &self.globals).ok());
            names.extend(stage.instructions.iter().flat_map(|instruction| match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().map(|from| from.text.clone()).collect(),
                Kind::Run(run) => run.mounts.iter().filter_map(super::mounts::named_from).collect(),
                _ => Vec::new(),
            }));
            let (base, copied) =
                names.split_first().map_or((None, names.as_slice()), |(base, rest)| (Some(base), rest));
            let base = base.and_then(|name| self.named_stage(name, index));
            let copied = copied.iter().filter_map(|name| self.find_stage(name, index));
            let found: Vec<usize> = base.into_iter().chain(copied).collect();
            todo.extend(found.into_iter().filter(|index| needed.insert(*index)));
        }
        needed
    }

    /// Lowers the stage `index` unless that's done.
    pub(super) fn stage(&mut self, index: usize) -> Result<(), Stop> {
        if self.states.contains_key(&index) {
            return Ok(());
        }
        if let Some(stop) = self.stopped.get(&index) {
            return Err(stop.clone());
        }
        self.reached.insert(index);
        let outer = self.runs_anew;
        self.runs_anew = self.parameters.anew.iter().any(|wanted| is_named(self.tree, index, wanted));
        let lowered = StageState::lower(self, index);
        self.runs_anew = outer;
        let stop = match lowered {
            Ok(state) => {
                self.states.insert(index, state);
                return Ok(());
            }
            Err(stop) => stop,
        };
        if let Stop::Missing(wanted) = &stop
            && !self.missing.iter().any(|known| known.request == wanted.request)
        {
            self.missing.push(Wanted::clone(wanted));
        }
        self.stopped.insert(index, stop.clone());
        Err(stop)
    }

    /// The vertex that stage `index` ends with, for the copy or mount at `span`.
    pub(super) fn end_of(&mut self, index: usize, span: Span) -> Result<VertexId, Stop> {
        if self.nested >= MAX_NESTED {
            let message =
                format!("more than {MAX_NESTED} stages need each other through variables and triggers");
            let hint = Some("name the stage without a variable".to_owned());
            return Err(self.error("nested-stages", span, message, hint));
        }
        self.nested += 1;
        let result = self.stage(index);
        self.nested -= 1;
        result.map(|()| self.states[&index].rootfs)
    }

    /// Finds a stage by name alone, as FROM does.
    fn named_stage(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_ascii_lowercase();
        let named = |stage: &Stage| stage.name.as_ref().is_some_and(|word| word.text == lower);
        self.tree.stages[..before].iter().rposition(named)
    }

    /// The base of `stage`: an earlier stage's end, nothing, or an image.
    pub(super) fn base(&mut self, index: usize, stage: &'a Stage) -> Result<StageBase, Stop> {
        let name = self.expand_global(&stage.base).ok_or(Stop::Wrong)?;
        if name.trim().is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.text);
            let hint = word::variables(&stage.base.text, self.tree.directives.escape).first().map(|name| {
                format!("give it a value with `--build-arg {name}=…` or `ARG {name}=…` before the first FROM")
            });
            return Err(self.error("blank-base", stage.base.span, message, hint));
        }
        let platform = self.platform_of(stage)?;
        if let Some(earlier) = self.named_stage(&name, index) {
            self.stage(earlier)?;
            self.charge(self.states[&earlier].weight(), stage.base.span)?;
            return Ok(StageBase::Stage(Box::new(self.states[&earlier].clone())));
        }
        if name == "scratch" {
            return Ok(StageBase::Scratch(platform));
        }
        if let Some(base) = self.context_base(&name, &platform, stage.base.span)? {
            return Ok(base);
        }
        let request = self.image_request(&name, platform, stage.base.span)?;
        let base = self.image(&request, stage.base.span)?;
        Ok(StageBase::Image(request, Box::new(base)))
    }

    fn platform_of(&mut self, stage: &'a Stage) -> Result<Platform, Stop> {
        let Some(word) = &stage.platform else { return Ok(self.parameters.platform.clone()) };
        let text = self.expand_global(word).ok_or(Stop::Wrong)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.text);
            return Err(self.error("empty-platform", word.span, message, None));
        }
        text.parse().map_err(|error| {
            let hint = Some("write it as os/architecture, such as linux/amd64".to_owned());
            self.error("bad-platform", word.span, format!("invalid platform `{text}`: {error}"), hint)
        })
    }

    /// Reads `name` as an image's reference.
    pub(super) fn image_request(
        &mut self,
        name: &str,
        platform: Platform,
        span: Span,
    ) -> Result<BaseRequest, Stop> {
        match name.parse() {
            Ok(reference) => Ok(BaseRequest { reference, platform, layout: None }),
            Err(error) => Err(self.error("bad-reference", span, format!("{error}"), None)),
        }
    }

    /// The image, if it is known.
    pub(super) fn image(&mut self, request: &BaseRequest, span: Span) -> Result<Base, Stop> {
        let found = self.bases.get(request).cloned();
        let wanted = || Stop::Missing(Box::new(Wanted { request: request.clone(), span }));
        let Some(find) = &mut self.find else { return found.ok_or_else(wanted) };
        if let Some(base) = found.or_else(|| find(request)) {
            return Ok(base);
        }
        self.unknown.insert(request.reference.familiar());
        Ok(Base { image: Digest::of(b""), config: ImageConfig::default() })
    }

    /// Adds a vertex that starts from `base`.
    pub(super) fn source(
        &mut self,
        request: &BaseRequest,
        base: &Base,
        name: String,
        span: Span,
    ) -> VertexId {
        let diff_ids: Vec<_> = base.config.rootfs.diff_ids.iter().copied().map(crate::oci::DiffId).collect();
        let op = OpSpec::Source(SourceSpec {
            name: request.shown(),
            image: base.image,
            platform: request.platform.to_string(),
            chain_id: crate::oci::chain_id(&diff_ids).map(|chain| chain.0),
        });
        self.vertex(Vertex { op, rootfs: None, reads: Vec::new(), name, span, variables: Vec::new() })
    }

    /// Adds a vertex that starts from nothing.
    pub(super) fn scratch(&mut self, span: Span) -> VertexId {
        let (op, name) = (OpSpec::Scratch, String::new());
        self.vertex(Vertex { op, rootfs: None, reads: Vec::new(), name, span, variables: Vec::new() })
    }

    /// Adds a vertex.
    pub(super) fn vertex(&mut self, vertex: Vertex) -> VertexId {
        self.vertices.push(vertex);
        let id = self.vertices.len() - 1;
        if self.runs_anew {
            self.anew.insert(id);
        }
        id
    }

    /// A vertex without inputs that does just this.
    pub(super) fn same(&self, op: &OpSpec) -> Option<VertexId> {
        self.vertices.iter().position(|vertex| vertex.op == *op)
    }

    /// Expands `word` to one text; a mistake is noted and gives `None`.
    pub(super) fn expand(&mut self, word: &Word, scope: &Scope) -> Option<String> {
        let escape = self.tree.directives.escape;
        match self.watch(scope, word.span, |vars| word::expand(&word.text, escape, vars)) {
            Ok(text) => self.charge(text.len(), word.span).ok().map(|()| text),
            Err(error) => {
                self.error("bad-substitution", error.span(word), error.to_string(), None);
                None
            }
        }
    }

    /// Notes a mistake that was found elsewhere.
    pub(super) fn wrong(&mut self, mistake: Diagnostic) -> Stop {
        let span = self.within.unwrap_or(mistake.span);
        self.errors.push(Diagnostic { span, ..mistake });
        Stop::Wrong
    }

    /// Notes a mistake.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: String,
        hint: Option<String>,
    ) -> Stop {
        let span = self.within.unwrap_or(span);
        self.errors.push(Diagnostic { code, severity: Severity::Error, message, hint, span });
        Stop::Wrong
    }

    /// Notes that kiln can't do this yet: refused by name, never ignored.
    pub(super) fn unsupported(&mut self, what: &str, span: Span) -> Stop {
        self.error("not-supported-yet", span, format!("{what} is not supported yet"), None)
    }

    /// Makes the graph of the target stage.
    fn finish(mut self, index: usize) -> Graph {
        let warnings = self.all_warnings();
        let state = self.states.remove(&index).expect("the target was lowered");
        let (target, mut plan) = state.into_plan();
        for (key, value) in &self.parameters.labels {
            plan.config.config.labels.insert(key.clone(), value.clone());
        }
        Graph { vertices: self.vertices, anew: self.anew, target, plan, warnings }
    }

    /// The mistakes found, and the warnings beside them, in the order of the file.
    pub(super) fn mistakes(&mut self) -> Vec<Diagnostic> {
        let mut all = self.all_warnings();
        // An error says what this would have said of the defaults alone.
        let told = |span| self.errors.iter().any(|error| error.span == span);
        all.retain(|found| found.code != "invalid-default-arg-in-from" || !told(found.span));
        all.append(&mut self.errors);
        all.sort_by_key(|found| found.span.start);
        all
    }
}

/// What a stage starts from.
pub(super) enum StageBase {
    /// The end of an earlier stage.
    Stage(Box<StageState>),
    /// Nothing.
    Scratch(Platform),
    /// The files of a context.
    Context(ContextId, Platform),
    /// An image.
    Image(BaseRequest, Box<Base>),
}
