//! One stage's state, changed by one instruction after the other.

use std::collections::BTreeSet;

use kiln_grammar::ast::{CommandLine, Declaration, Healthcheck, Instruction, Kind, Pair, Span, Stage, Word};
use kiln_grammar::mount::clean;
use kiln_grammar::{parse_trigger, word};

use super::lower::{Lowering, StageBase, Stop};
use super::mounts::Masked;
use super::scope::{DEFAULT_PATH, Scope};
use super::{HistoryPlan, ImagePlan, Input, MkdirSpec, OpSpec, Vertex, VertexId, budget, history, name};
use crate::oci::{self, Empty, HistoryEntry, ImageConfig, Platform};

/// Where a stage stands.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The vertex whose result is the stage's root filesystem.
    pub(super) rootfs: VertexId,
    pub(super) config: ImageConfig,
    pub(super) scope: Scope,
    history: Vec<HistoryPlan>,
    /// True once this stage has a CMD of its own.
    cmd_set: bool,
    /// True once this stage, or one that it stands on, has a WORKDIR of this file.
    pub(super) workdir_set: bool,
    /// Paths that are directories for sure.
    pub(super) folders: BTreeSet<String>,
    /// How steps of this stage are named and counted.
    label: StepLabel,
    pub(super) index: usize,
}

/// `[build 2/5]`.
#[derive(Debug, Clone, Default)]
struct StepLabel {
    stage: String,
    step: usize,
    steps: usize,
}

/// The longest path that Linux takes: `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;

impl StepLabel {
    fn next(&mut self) -> String {
        self.step += 1;
        let total = self.steps.to_string();
        format!("[{}{:>width$}/{total}]", self.stage, self.step, width = total.len())
    }
}

impl StageState {
    /// Lowers the stage `index` from its FROM to its end.
    pub(super) fn lower(lowering: &mut Lowering<'_>, index: usize) -> Result<Self, Stop> {
        // A trigger that copies from another stage has this one lowered first.
        let outer = lowering.within.take();
        let result = Self::lowered(lowering, index);
        lowering.within = outer;
        result
    }

    fn lowered(lowering: &mut Lowering<'_>, index: usize) -> Result<Self, Stop> {
        let stage = &lowering.tree.stages[index];
        let (base, instructions) = lowering.start_of(index, stage)?;
        let triggers = match &base {
            StageBase::Stage(state) => state.config.config.on_build.clone(),
            StageBase::Image(_, image) => image.config.config.on_build.clone(),
            StageBase::Scratch(_) | StageBase::Context(..) => Vec::new(),
        };
        let triggers = parse_triggers(lowering, stage, &triggers)?;
        let steps = triggers.iter().chain(instructions).filter(makes_step).count();
        let mut state = Self::start(lowering, index, stage, base, steps);
        let mut well = true;
        for (number, instruction) in triggers.iter().chain(instructions).enumerate() {
            lowering.within = (number < triggers.len()).then_some(stage.span);
            match state.apply(lowering, instruction) {
                Ok(()) => {}
                // The rest may have mistakes of its own: they are told together.
                Err(Stop::Wrong) => well = false,
                Err(stop) => return Err(stop),
            }
        }
        if well { Ok(state) } else { Err(Stop::Wrong) }
    }

    fn start(
        lowering: &mut Lowering<'_>,
        index: usize,
        stage: &Stage,
        base: StageBase,
        steps: usize,
    ) -> Self {
        let mut label = StepLabel { stage: stage_label(lowering, index, stage), step: 0, steps };
        let mut state = match base {
            StageBase::Stage(state) => Self { index, label: label.clone(), cmd_set: false, ..*state },
            StageBase::Scratch(platform) => {
                let mut config = ImageConfig::default();
                "/".clone_into(&mut config.config.working_dir);
                let rootfs = lowering.scratch(stage.span);
                Self::fresh(rootfs, config, &platform, label.clone(), index)
            }
            StageBase::Context(id, platform) => {
                label.steps += 1;
                let name = format!("{} FROM {}", label.next(), lowering.context_name(id));
                let mut config = ImageConfig::default();
                "/".clone_into(&mut config.config.working_dir);
                let rootfs = lowering.context_rootfs(id, name, stage.span);
                Self::fresh(rootfs, config, &platform, label.clone(), index)
            }
            StageBase::Image(request, image) => {
                label.steps += 1;
                let name = format!("{} FROM {}", label.next(), request.shown());
                let rootfs = lowering.source(&request, &image, name, stage.span);
                lowering.check_base_platform(&request, &Platform::of_config(&image.config), stage.base.span);
                let mut state = Self::fresh(rootfs, image.config, &request.platform, label.clone(), index);
                state.scope.complete = !lowering.unknown.contains(&request.reference.familiar());
                state
            }
        };
        state.label = label;
        state.config.config.on_build.clear();
        state
    }

    fn fresh(
        rootfs: VertexId,
        mut config: ImageConfig,
        platform: &Platform,
        label: StepLabel,
        index: usize,
    ) -> Self {
        let history = kept_history(&mut config).into_iter().map(HistoryPlan::Kept).collect();
        config.rootfs.diff_ids.clear();
        config.os.clone_from(&platform.os);
        config.architecture.clone_from(&platform.architecture);
        config.variant.clone_from(&platform.variant);
        let mut scope = Scope { complete: true, ..Scope::default() };
        for entry in &config.config.env {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            scope.set_env(key, value.to_owned());
        }
        if !scope.env.iter().any(|(key, _)| key == "PATH") {
            scope.set_env("PATH", DEFAULT_PATH.to_owned());
        }
        let folders = BTreeSet::from([clean(&config.config.working_dir)]);
        Self { rootfs, config, scope, history, cmd_set: false, workdir_set: false, folders, label, index }
    }

    /// Ends the stage: the vertex of its rootfs and the plan of its image.
    pub(super) fn into_plan(mut self) -> (VertexId, ImagePlan) {
        self.config.config.env = self.scope.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (self.rootfs, ImagePlan { config: self.config, history: self.history })
    }

    fn apply(&mut self, lowering: &mut Lowering<'_>, instruction: &Instruction) -> Result<(), Stop> {
        self.check(lowering, instruction);
        match &instruction.kind {
            Kind::Run(run) => self.run(lowering, instruction, run),
            Kind::Copy(copy) => self.copy(lowering, instruction, copy),
            Kind::Add(add) => self.add(lowering, instruction, add),
            Kind::Workdir(path) => self.workdir(lowering, instruction, path),
            Kind::Env(pairs) => self.env(lowering, pairs),
            Kind::Label(pairs) => self.label(lowering, pairs),
            Kind::Arg(declarations) => self.arg(lowering, declarations),
            Kind::Expose(ports) => self.expose(lowering, ports),
            Kind::Volume(paths) => self.volume(lowering, paths),
            Kind::User(user) => self.user(lowering, user),
            Kind::Stopsignal(signal) => self.stop_signal(lowering, signal),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Shell(shell) => {
                self.note(format!("SHELL [{}]", shell.join(" ")));
                self.config.config.shell = Some(shell.clone());
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                self.config.config.on_build.push(onbuild.text.clone());
                Ok(())
            }
            Kind::Maintainer(name) => {
                self.note(format!("MAINTAINER {}", name.text));
                self.config.author = Some(name.text.clone());
                Ok(())
            }
            Kind::Healthcheck(check) => self.healthcheck(check),
        }
    }

    /// What a copy of this state takes, in bytes, about.
    pub(super) fn weight(&self) -> usize {
        const LINE_BYTES: usize = 128;
        let history = self.history.len() * LINE_BYTES;
        history + budget::weight(&self.scope)
    }

    /// Adds a history line without a layer.
    fn note(&mut self, created_by: String) {
        self.history.push(HistoryPlan::Made { created_by, vertex: None });
    }

    /// Adds a vertex on top of the stage and its history line.
    pub(super) fn step(
        &mut self,
        lowering: &mut Lowering<'_>,
        op: OpSpec,
        reads: Vec<Input>,
        (shown, span): (&str, Span),
        created_by: String,
    ) {
        let name = self.step_name(lowering, shown, &op);
        let variables = match op {
            OpSpec::Exec(_) => Vec::new(),
            _ => self.scope.used(shown, lowering.tree.directives.escape),
        };
        let vertex = lowering.vertex(Vertex { op, rootfs: Some(self.rootfs), reads, name, span, variables });
        self.stand_on(vertex, created_by);
    }

    /// The name of the next step: its number and its text.
    pub(super) fn step_name(&mut self, lowering: &Lowering<'_>, shown: &str, op: &OpSpec) -> String {
        let mounts = match op {
            OpSpec::Exec(spec) => spec.mounts.as_slice(),
            _ => &[],
        };
        let masked = Masked { scope: &self.scope, mounts };
        format!("{} {}", self.label.next(), name::shown(shown, lowering.tree.directives.escape, &masked))
    }

    /// Goes on from `vertex`, which made the layer of the instruction `created_by`.
    pub(super) fn stand_on(&mut self, vertex: VertexId, created_by: String) {
        self.rootfs = vertex;
        self.history.push(HistoryPlan::Made { created_by, vertex: Some(vertex) });
    }

    /// `path` as seen from the working directory; absolute, not cleaned.
    pub(super) fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.config.config.working_dir.trim_end_matches('/')),
        }
    }

    fn workdir(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        path: &Word,
    ) -> Result<(), Stop> {
        let text = lowering.expand(path, &self.scope).ok_or(Stop::Wrong)?;
        self.check_workdir(lowering, &text, path.span);
        // BuildKit leaves an absolute path as it is written.
        let shown = if text.starts_with('/') { text } else { clean(&self.absolute(&text)) };
        if shown.len() > MAX_PATH_BYTES {
            let message =
                format!("the path has {} bytes, more than the {MAX_PATH_BYTES} of Linux", shown.len());
            return Err(lowering.error("path-too-long", instruction.span, message, None));
        }
        let path = clean(&shown);
        let text = format!("WORKDIR {shown}");
        self.note_folder(path.clone());
        self.config.config.working_dir = shown;
        if path == "/" {
            self.note(text);
            return Ok(());
        }
        let op = OpSpec::Mkdir(MkdirSpec { path, user: self.config.config.user.clone() });
        self.step(lowering, op, Vec::new(), (&instruction.original, instruction.span), text);
        Ok(())
    }

    fn env(&mut self, lowering: &mut Lowering<'_>, pairs: &[Pair]) -> Result<(), Stop> {
        let written = pairs;
        let pairs = self.pairs(lowering, pairs)?;
        lowering.check_keys(written, &pairs);
        let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.note(format!("ENV {}", shown.join(" ")));
        for (key, value) in pairs {
            self.scope.set_env(&key, value);
        }
        Ok(())
    }

    fn label(&mut self, lowering: &mut Lowering<'_>, pairs: &[Pair]) -> Result<(), Stop> {
        let pairs = self.pairs(lowering, pairs)?;
        let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.note(format!("LABEL {}", shown.join(" ")));
        self.config.config.labels.extend(pairs);
        Ok(())
    }

    /// Expands the pairs of one ENV or LABEL: all with the values from before it.
    fn pairs(&self, lowering: &mut Lowering<'_>, pairs: &[Pair]) -> Result<Vec<(String, String)>, Stop> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = lowering.expand(&pair.key, &self.scope).ok_or(Stop::Wrong)?;
            let value = lowering.expand(&pair.value, &self.scope).ok_or(Stop::Wrong)?;
            if key.is_empty() {
                // Docker takes it, and the image has an entry without a name.
                let message = format!("the name {} expands to nothing", pair.key.text);
                lowering.warn("blank-name", pair.key.span, message, None);
            }
            expanded.push((key, value));
        }
        Ok(expanded)
    }

    fn arg(&mut self, lowering: &mut Lowering<'_>, declarations: &[Declaration]) -> Result<(), Stop> {
        let mut shown = Vec::new();
        for declaration in declarations {
            let value = lowering.arg_value(declaration, &self.scope);
            let name = &declaration.name.text;
            shown.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            self.scope.declare(name, value);
        }
        self.note(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    fn expose(&mut self, lowering: &mut Lowering<'_>, words: &[Word]) -> Result<(), Stop> {
        // BuildKit sorts the words as they are written.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|left, right| left.text.cmp(&right.text));
        let mut all = Vec::new();
        for port in words {
            let escape = lowering.tree.directives.escape;
            // docker says nothing of variables that are missing here.
            let list = word::expand_list(&port.text, escape, &self.scope)
                .map_err(|error| lowering.error("bad-substitution", port.span, error.to_string(), None))?;
            for text in list {
                let ports = oci::parse_ports(&text).map_err(|message| {
                    let hint = Some("write it as port, port/udp or first-last".to_owned());
                    lowering.error("bad-port", port.span, message, hint)
                })?;
                lowering.charge(ports.len() * "65535/tcp ".len(), port.span)?;
                all.extend(ports);
            }
        }
        self.note(format!("EXPOSE [{}]", all.join(" ")));
        self.config.config.exposed_ports.extend(all.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn volume(&mut self, lowering: &mut Lowering<'_>, words: &[Word]) -> Result<(), Stop> {
        let mut paths = Vec::new();
        for path in words {
            let text = lowering.expand(path, &self.scope).ok_or(Stop::Wrong)?;
            if text.trim().is_empty() {
                let message = "VOLUME specified can not be an empty string".to_owned();
                return Err(lowering.error("blank-volume", path.span, message, None));
            }
            paths.push(text);
        }
        self.note(format!("VOLUME [{}]", paths.join(" ")));
        self.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    fn user(&mut self, lowering: &mut Lowering<'_>, user: &Word) -> Result<(), Stop> {
        let text = lowering.expand(user, &self.scope).ok_or(Stop::Wrong)?;
        self.note(format!("USER {text}"));
        self.config.config.user = text;
        Ok(())
    }

    fn stop_signal(&mut self, lowering: &mut Lowering<'_>, signal: &Word) -> Result<(), Stop> {
        let text = lowering.expand(signal, &self.scope).ok_or(Stop::Wrong)?;
        // Docker takes any number but 0.
        let number = text.parse().is_ok_and(|number: i32| number != 0);
        if !number && oci::parse_signal(&text).is_none() {
            let message = format!("invalid signal: `{text}`");
            let hint = Some("use a name such as SIGTERM or a number from 1 to 64".to_owned());
            return Err(lowering.error("bad-signal", signal.span, message, hint));
        }
        self.note(format!("STOPSIGNAL {text}"));
        self.config.config.stop_signal = Some(text);
        Ok(())
    }

    /// The program of a command: the exec form as it is, or the shell with the line.
    pub(super) fn program(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(args) => args.clone(),
            CommandLine::Shell(line) => self.shell(line.clone()),
        }
    }

    /// The stage's shell with `line` as its last argument.
    pub(super) fn shell(&self, line: String) -> Vec<String> {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        let mut args = self.config.config.shell.clone().unwrap_or_else(default);
        args.push(line);
        args
    }

    fn cmd(&mut self, command: &CommandLine) -> Result<(), Stop> {
        let args = self.program(command);
        self.note(history::command("CMD", &args));
        self.config.config.cmd = Some(args);
        self.config.config.args_escaped = Some(true);
        self.cmd_set = true;
        Ok(())
    }

    fn entrypoint(&mut self, command: &CommandLine) -> Result<(), Stop> {
        let args = self.program(command);
        self.note(history::command("ENTRYPOINT", &args));
        self.config.config.entrypoint = Some(args);
        if !self.cmd_set {
            // A CMD of the base was meant for the base's entrypoint.
            self.config.config.cmd = None;
        }
        Ok(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Stop> {
        let test = match check {
            Healthcheck::None => vec!["NONE".to_owned()],
            Healthcheck::Command { command: CommandLine::Exec(args), .. } => {
                std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
            }
            Healthcheck::Command { command: CommandLine::Shell(line), .. } => {
                vec!["CMD-SHELL".to_owned(), line.clone()]
            }
        };
        let mut probe = oci::Healthcheck { test, ..Default::default() };
        if let Healthcheck::Command { interval, timeout, start_period, start_interval, retries, .. } = check {
            probe.interval = *interval;
            probe.timeout = *timeout;
            probe.start_period = *start_period;
            probe.start_interval = *start_interval;
            probe.retries = i64::from(*retries);
        }
        self.note(history::healthcheck(&probe));
        self.config.config.healthcheck = Some(probe);
        Ok(())
    }
}

fn makes_step(instruction: &&Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// How steps of a stage are prefixed: nothing in a Dockerfile with one stage.
fn stage_label(lowering: &Lowering<'_>, index: usize, stage: &Stage) -> String {
    match &stage.name {
        Some(name) => format!("{} ", name.text),
        None if lowering.tree.stages.len() > 1 => format!("stage-{index} "),
        None => String::new(),
    }
}

/// Parses the ONBUILD triggers of a base; what they say is pointed at by the FROM.
fn parse_triggers(
    lowering: &mut Lowering<'_>,
    stage: &Stage,
    texts: &[String],
) -> Result<Vec<Instruction>, Stop> {
    let mut triggers = Vec::with_capacity(texts.len());
    for text in texts {
        match parse_trigger(text, '\\') {
            Ok(mut trigger) => {
                trigger.span = stage.span;
                triggers.push(trigger);
            }
            Err(diagnostics) => {
                for diagnostic in diagnostics {
                    let message = format!("ONBUILD trigger `{text}` of the base: {}", diagnostic.message);
                    lowering.error("bad-trigger", stage.base.span, message, diagnostic.hint);
                }
                return Err(Stop::Wrong);
            }
        }
    }
    Ok(triggers)
}

/// Takes a base's history with exactly one line per layer: many images have none, some a wrong one.
///
/// As in BuildKit, lines are added for layers that have none, and lines too many count as without a layer.
fn kept_history(config: &mut ImageConfig) -> Vec<HistoryEntry> {
    let layers = config.rootfs.diff_ids.len();
    let mut history = std::mem::take(&mut config.history);
    let mut lines = 0;
    for entry in &mut history {
        entry.empty_layer |= lines == layers;
        lines += usize::from(!entry.empty_layer);
    }
    let missing = HistoryEntry { created: config.created.clone(), ..HistoryEntry::default() };
    history.extend(std::iter::repeat_n(missing, layers - lines));
    history
}
