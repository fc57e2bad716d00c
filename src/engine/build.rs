//! `kiln build`.
//!
//! 1. Read the Dockerfile; its mistakes come back all at once.
//! 2. Lower it. Images that it names and the store lacks are pulled, then it is lowered again.
//! 3. Look every step up. When all are cached, no thread, network or runtime was started.
//! 4. Run what is left.
//! 5. Assemble the image, tag it, write the outputs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::{Image, Lease, SnapshotId, Store};
use kiln_grammar::Diagnostic;
use kiln_grammar::ast::Dockerfile;
use kiln_grammar::suggest;

use super::contexts::EPOCH_ARG;
use super::dockerfile::{self, Recipe};
use super::{Engine, assemble, base, check};
use crate::api::{
    BuildOutcome, BuildRequest, Event, Events, Failure, FailureKind, NetworkMode, OutputKind, Settings,
    StepId, Stop,
};
use crate::build::context::Ignore;
use crate::build::graph::{
    self, Base, BaseRequest, Bases, Graph, Hidden, Lowered, OpSpec, Parameters, VertexId, Wanted,
};
use crate::build::ops::{self, Credentials, Lent, Machine, Maker};
use crate::build::solve::{Node, Outcome, Setup, Solver, Stopped, Witness};
use crate::image;
use crate::oci::{Platform, Reference};

/// How often lowering may ask for images: FROM, then ONBUILD's COPY --from, and one more.
const ROUNDS: usize = 8;

/// How often a result is made again that a prune took before it was an image.
const ATTEMPTS: usize = 8;

/// One build's parts.
pub(super) struct Build<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a BuildRequest,
    pub(super) events: &'a Events,
    pub(super) store: Store,
    pub(super) lease: Lease,
    pub(super) machine: Arc<Machine>,
    /// The number of the next step.
    pub(super) steps: AtomicU32,
    /// The user's order to stop.
    pub(super) stop: Stop,
    /// Something was not in the cache.
    has_run: AtomicBool,
}

impl Engine {
    /// Builds what `request` asks for.
    pub fn build(&self, request: &BuildRequest, events: &Events) -> Result<BuildOutcome, Failure> {
        let build = Build::new(self, request, events)?;
        let result = build.run();
        let has_run = build.has_run.load(Ordering::Relaxed);
        drop(build);
        if has_run {
            self.flush_later(result.is_ok());
        }
        result
    }
}

impl Engine {
    /// What `request` lends the build for other machines.
    fn credentials(&self, request: &BuildRequest, lent: &Lent) -> Credentials {
        let Settings { programs, proxies, known_hosts, .. } = &self.settings;
        Credentials {
            secrets: request.secrets.iter().map(|secret| (secret.id.clone(), secret.value.clone())).collect(),
            agent: lent.agent("default").map(Path::to_path_buf),
            known_hosts: known_hosts.clone(),
            environment: programs.iter().chain(proxies).cloned().collect(),
        }
    }
}

impl<'a> Build<'a> {
    /// Prepares a build; nothing is asked or written yet.
    pub(super) fn new(
        engine: &'a Engine,
        request: &'a BuildRequest,
        events: &'a Events,
    ) -> Result<Self, Failure> {
        let store = engine.store()?.clone();
        let lease = store.lease();
        let lent = Lent::new(
            &request.secrets,
            &request.ssh,
            (&engine.settings.programs, &engine.settings.cdi),
            &store,
        )?;
        let credentials = engine.credentials(request, &lent);
        let machine = Machine::new(&store, credentials, lent).with_shm_bytes(request.shm_bytes);
        let machine = Arc::new(match &request.join {
            Some(name) => machine.with_network(engine.network_to_join(name)?),
            None => machine,
        });
        Ok(Self {
            engine,
            request,
            events,
            store,
            lease,
            machine,
            steps: AtomicU32::new(1),
            stop: Stop::default(),
            has_run: AtomicBool::new(false),
        })
    }
}

impl Build<'_> {
    fn run(&self) -> Result<BuildOutcome, Failure> {
        let recipe = dockerfile::read(self)?;
        let tree = recipe.parse(self.request)?;
        let epoch = self.epoch(&recipe)?;
        if let Some(epoch) = epoch {
            self.machine.diff_ids.carry(epoch);
        }
        let mut bases = Bases::new();
        let graph = self.lower((&recipe, epoch), &tree, &mut bases)?;
        self.warn(&recipe, &graph.warnings);
        self.warn(&recipe, &check::unasked(&tree, self.request));
        self.warn(&recipe, &graph::unknown_stages(&tree, &self.request.no_cache_filter));
        // Nothing holds what was found in the cache, so that a build without a change writes nothing: a prune
        // may take it before it is an image.
        for _ in 0..ATTEMPTS {
            let outcomes = self.solve(&recipe, &graph)?;
            if let Some(built) = self.finish(&graph, &outcomes, epoch)? {
                self.touch(&outcomes);
                return Ok(built);
            }
        }
        let failure = Failure::new(FailureKind::System, "a layer of the result was removed again and again");
        Err(failure.hint("run the build again when no prune runs"))
    }

    /// Notes what was used, at most hourly, so that the collector takes it last. A build whose image is there
    /// doesn't fail because this can't be written.
    fn touch(&self, outcomes: &[Outcome]) {
        let results: Vec<_> = outcomes.iter().map(|outcome| outcome.id).collect();
        if let Err(error) = self.store.touch(&results) {
            tracing::warn!(%error, "cannot note what the build used");
        }
    }

    fn warn(&self, recipe: &Recipe, warnings: &[Diagnostic]) {
        for warning in warnings {
            self.events.send(Event::Warning(recipe.render(warning)));
        }
    }

    /// Lowers the tree, bringing the images that it needs.
    fn lower(
        &self,
        (recipe, epoch): (&Recipe, Option<i64>),
        tree: &Dockerfile,
        bases: &mut Bases,
    ) -> Result<Arc<Graph>, Failure> {
        let parameters = self.parameters(recipe, epoch);
        for _ in 0..ROUNDS {
            match graph::lower(tree, bases, &parameters) {
                Ok(Lowered::Ready(graph)) => return Ok(graph.into()),
                Ok(Lowered::Missing(requests)) => {
                    for (wanted, base) in self.bases(requests) {
                        let base = base.map_err(|failure| {
                            self.warn(recipe, &tree.warnings);
                            let failure = perhaps_a_stage(failure, tree, &wanted.request.reference);
                            recipe.explain(failure, wanted.span)
                        })?;
                        bases.insert(wanted.request, base);
                    }
                }
                Err(diagnostics) => return Err(recipe.failure(&diagnostics)),
            }
        }
        Err(Failure::new(FailureKind::Invalid, "the Dockerfile asks for further images without end"))
    }

    fn parameters(&self, recipe: &Recipe, epoch: Option<i64>) -> Parameters {
        let ignore = recipe.ignore.clone();
        let mut parameters = self.engine.parameters(self.request, ignore);
        for (name, value) in &mut parameters.build_args {
            if let (EPOCH_ARG, "context", Some(epoch)) = (name.as_str(), value.as_str(), epoch) {
                // An ARG of this name has the time itself, as in BuildKit.
                *value = epoch.to_string();
            }
        }
        if let Some(epoch) = epoch
            && !parameters.build_args.iter().any(|(name, _)| name == EPOCH_ARG)
        {
            parameters.build_args.push((EPOCH_ARG.to_owned(), epoch.to_string()));
        }
        parameters
    }
}

impl Engine {
    /// What lowering is told of a build.
    pub(super) fn parameters(&self, request: &BuildRequest, ignore: Ignore) -> Parameters {
        let exceptions = ignore.has_exceptions();
        Parameters {
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            target: request.target.clone(),
            platform: request.platform.clone(),
            build_platform: Platform::host(),
            network: request.network,
            add_hosts: request.add_hosts.clone(),
            allow: request.allow.clone(),
            proxies: self.settings.proxies.clone(),
            // A `!` may show a part of what is hidden: then only the copy itself can tell.
            hidden: Hidden::new(move |path| !exceptions && ignore.matches(path.as_bytes())),
            contexts: request.named_contexts.clone(),
            anew: request.no_cache_filter.clone(),
        }
    }
}

impl Build<'_> {
    /// Brings the images: those to be pulled at the same time, if there are several.
    fn bases(&self, wanted: Vec<Wanted>) -> Vec<(Wanted, Result<Base, Failure>)> {
        let is_local = |wanted: &Wanted| {
            let BaseRequest { reference, platform, layout } = &wanted.request;
            let found = || self.engine.local_base(reference, platform, self.request.pull);
            layout.is_some() || found().is_ok_and(|found| found.is_some())
        };
        let here = |wanted: Wanted| {
            let base = self.base(&wanted.request);
            (wanted, base)
        };
        if wanted.len() < 2 || wanted.iter().filter(|wanted| !is_local(wanted)).count() < 2 {
            return wanted.into_iter().map(here).collect();
        }
        std::thread::scope(|scope| {
            let started: Vec<_> =
                wanted.into_iter().map(|wanted| scope.spawn(move || here(wanted))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            started.into_iter().map(join).collect()
        })
    }

    /// The image that a FROM names: in the store, else at its registry.
    fn base(&self, request: &BaseRequest) -> Result<Base, Failure> {
        let (policy, platform) = (self.request.pull, &request.platform);
        if let Some(layout) = &request.layout {
            let wanted = layout.image.as_deref();
            let image = image::from_layout(&self.store, &self.lease, &layout.folder, wanted, platform)?;
            return Ok(Base { image: image.id, config: image::config(&self.store, &image)? });
        }
        match self.engine.find_base(&request.reference, platform, policy, &self.lease)? {
            base::Found::Here(image, config) => Ok(Base { image: image.id, config: *config }),
            base::Found::There(remote) => {
                let base = Base { image: remote.id(), config: remote.config().clone() };
                self.machine.bases.add(*remote);
                Ok(base)
            }
        }
    }

    /// Brings every vertex to a result.
    fn solve(&self, recipe: &Recipe, graph: &Arc<Graph>) -> Result<Vec<Outcome>, Failure> {
        let contexts = self.contexts(graph, &recipe.context)?;
        let first = self.announce(graph);
        let platform = self.request.platform.to_string();
        let view = self.store.view().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        let nodes = ops::bind(graph, &platform, &self.store, &contexts.all, &self.machine, first)
            .map_err(|failure| *failure)?;
        let why = Arc::new(self.why(recipe, graph, first));
        let solver = self.solver(nodes, graph.target, Arc::clone(&why) as Arc<dyn Witness>);
        let stopped = |stopped: Stopped| match stopped.vertex {
            Some(vertex) => recipe.explain(*stopped.error, graph.vertices[vertex].span),
            None => *stopped.error,
        };
        let mut found = solver.cached().map_err(stopped)?;
        drop(view);
        if let Some(outcomes) = solver.complete(&found) {
            // A file that was written again as it was had to be read; the next build needn't.
            contexts.save();
            return Ok(outcomes);
        }
        let missing = solver.secure(&mut found).map_err(|failure| *failure)?;
        self.prepare(graph, &missing);
        self.has_run.store(true, Ordering::Relaxed);
        let outcomes = self.engine.wait_heeding(&self.stop, async {
            let outcomes = Arc::new(solver).run(found).await?;
            self.machine.diff_ids.finish(&outcomes[graph.target].chain).await;
            Ok(outcomes)
        })?;
        why.keep(outcomes.as_ref().err().and_then(|stopped: &Stopped| stopped.vertex));
        let outcomes = outcomes.map_err(stopped);
        contexts.save();
        outcomes
    }

    fn solver(&self, nodes: Vec<Node>, target: VertexId, witness: Arc<dyn Witness>) -> Solver {
        Solver::new(Setup {
            nodes,
            targets: vec![target],
            store: self.store.clone(),
            lease: self.lease.clone(),
            events: self.events.clone(),
            no_cache: self.request.no_cache || self.request.cache_ttl.is_some_and(|ttl| ttl.is_zero()),
            since: self.request.cache_ttl.map(seconds_ago),
            jobs: self.request.jobs,
            stop: self.stop.clone(),
            witness,
        })
    }

    /// Makes ready what the steps that may run need.
    fn prepare(&self, graph: &Graph, missing: &[VertexId]) {
        let networks: Vec<NetworkMode> = missing
            .iter()
            .filter_map(|vertex| match &graph.vertices[*vertex].op {
                OpSpec::Exec(spec) => Some(spec.network),
                _ => None,
            })
            .collect();
        self.machine.prepare(&networks);
    }

    /// Tells the user which steps there are; gives the number of the first.
    fn announce(&self, graph: &Graph) -> StepId {
        let count = u32::try_from(graph.vertices.len()).unwrap_or(u32::MAX);
        let first = self.steps.fetch_add(count, Ordering::Relaxed);
        for (index, vertex) in graph.vertices.iter().enumerate() {
            if vertex.op.is_shown() {
                let step = first + u32::try_from(index).unwrap_or(u32::MAX);
                self.events.send(Event::Planned { step, name: vertex.name.clone() });
            }
        }
        first
    }

    /// Keeps the layers of the result while they are written out; false when one was removed.
    fn hold(&self, chain: &[SnapshotId]) -> Result<bool, Failure> {
        self.lease.hold(chain).map_err(|error| Failure::from_error(FailureKind::System, &error))
    }

    /// Makes the image; `None` when a layer of it was removed.
    fn image(
        &self,
        graph: &Graph,
        outcomes: &[Outcome],
        epoch: Option<i64>,
    ) -> Result<Option<Image>, Failure> {
        match assemble::image(graph, outcomes, &self.store, &self.lease, epoch) {
            Ok(image) => Ok(Some(image)),
            Err(image::Error::Store(kiln_cache::Error::NoSnapshot { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the configuration of the result while it is written out; false when a prune took it.
    fn hold_config(&self, image: &Image) -> Result<bool, Failure> {
        let held = self.lease.hold_blobs(&[image.id]);
        held.map_err(|error| Failure::from_error(FailureKind::System, &error))
    }

    /// Makes the image and the outputs. An image that is there already is not written again.
    ///
    /// `None` when a layer of the result was removed before it was held.
    fn finish(
        &self,
        graph: &Graph,
        outcomes: &[Outcome],
        epoch: Option<i64>,
    ) -> Result<Option<BuildOutcome>, Failure> {
        let target = &outcomes[graph.target];
        let Some(mut image) = self.image(graph, outcomes, epoch)? else { return Ok(None) };
        let files_only = !self.request.outputs.is_empty()
            && self.request.outputs.iter().all(|output| output.kind != OutputKind::Image);
        let names: &[Reference] = if files_only { &[] } else { &self.request.tags };
        if let Err(kiln_cache::Error::NoImage { .. }) = self.tag(names, &image) {
            // A prune took it before it had its name; what it is made of is held now.
            if !self.hold(&target.chain)? {
                return Ok(None);
            }
            let Some(again) = self.image(graph, outcomes, epoch)? else { return Ok(None) };
            image = again;
        }
        self.tag(names, &image).map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        let is_held =
            self.request.outputs.is_empty() || self.hold(&target.chain)? && self.hold_config(&image)?;
        if !is_held {
            return Ok(None);
        }
        // Files outside of an image have no layers to be shared by: those of the base are clamped, too.
        let layers = assemble::layers(graph, outcomes, epoch, Maker::Program.times(epoch));
        for output in &self.request.outputs {
            let place = (&self.store, &self.lease);
            assemble::export(output, &image, &self.request.tags, place, &layers)?;
        }
        let tags = names.iter().map(Reference::to_string).collect();
        Ok(Some(BuildOutcome { image: Some(image.id.to_string()), tags }))
    }

    /// Gives the image its names; those that it has already are not written again.
    fn tag(&self, names: &[Reference], image: &kiln_cache::Image) -> kiln_cache::Result<()> {
        names.iter().try_for_each(|name| self.store.tag(&name.to_string(), &image.id).map(drop))
    }
}

/// The moment that was so long ago, in unix seconds.
fn seconds_ago(span: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_sub(span).as_secs()).unwrap_or(i64::MAX)
}

/// Adds what was perhaps meant: a name that is no stage's is taken as an image's.
fn perhaps_a_stage(failure: Failure, tree: &Dockerfile, reference: &Reference) -> Failure {
    let name = reference.familiar_name();
    let stages = || tree.stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
    if stages().any(|stage| stage == name) {
        return failure
            .hint(format!("the stage `{name}` stands further down: a stage can use only those above it"));
    }
    match suggest::closest(&name, stages()) {
        Some(stage) => failure.hint(format!("no stage is named `{name}`: did you mean `{stage}`?")),
        None => failure,
    }
}
