//! RUN: a program in a rootfs of its own; what it changes becomes a layer.
//!
//! 1. A staged snapshot is the overlay's upper folder, the inputs' layers are its lowers.
//! 2. The launcher starts the program; its two outputs come through pipes as events.
//! 3. When everything of it is dead and the overlay is gone, the staged folder is sealed.
//!
//! The result id is random per execution: two runs of one program may give different bytes, and what
//! stands above must not be put on the wrong one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::key::KeyBuilder;
use kiln_cache::{CacheMountRequest, Digest, Snapshot, SnapshotId, Staged, Store};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::explain::Scene;
use super::machine::{Machine, Seat, step_spec};
use super::mounts::{self, Prepared};
use super::tail::Log;
use super::{Maker, now, programs, system};
use crate::api::{Event, Failure, FailureKind, NetworkMode, Stream};
use crate::blocking;
use crate::build::graph::{ExecSpec, HOSTNAME, MountKind, MountSpec, SCRIPT_FOLDER};
use crate::build::solve::{Context, Executed, Key, Op, OpError, OpFuture, Outcome};
use crate::cdi;
use crate::network::Endpoint;
use crate::redacted::Redacted;
use crate::runtime::{Exit, Killer, Mount, Rights, Spec, StartError, StartErrorKind, Step, StepIo};

/// What is read of a step's output at once.
const READ_BYTES: usize = 32 << 10;

/// A layer of no more than this is hashed before its commit: that takes less than a thread and a transaction of its own.
const SMALL_BYTES: u64 = 64 << 10;
/// The same in files and folders.
const SMALL_ENTRIES: usize = 16;

/// Most of a command that a message shows; its lines are shown with it anyway.
const SHOWN_CHARACTERS: usize = 1000;

/// A RUN step.
#[derive(Clone)]
pub(super) struct Exec {
    pub(super) spec: Arc<ExecSpec>,
    pub(super) platform: String,
    pub(super) machine: Arc<Machine>,
    pub(super) name: String,
    /// For each of the reads: whether its result id already stands for its bytes.
    pub(super) named_by_content: Vec<bool>,
    pub(super) store: Store,
}

impl Op for Exec {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let reads = self.spec.mounts.iter().filter_map(mounts::read_of);
        self.key(
            inputs,
            "mounted result",
            &reads.map(|(read, _)| inputs[1 + read].id.to_string()).collect::<Vec<_>>(),
        )
    }

    fn family(&self, inputs: &[Outcome]) -> Digest {
        self.key(inputs, "", &[]).digest
    }

    fn content_key(&self, inputs: &[Outcome], store: &Store) -> Result<Option<Key>, OpError> {
        if !self.reads_more_than_named() {
            return Ok(None);
        }
        Ok(Some(self.key(inputs, "mounted", &self.contents(inputs, store)?)))
    }

    fn reads(&self, input: usize) -> bool {
        input > 0 && !self.named_by_content[input - 1]
    }

    fn fails_alike(&self) -> bool {
        let is_lent =
            |mount: &MountSpec| matches!(mount.kind, MountKind::Secret { .. } | MountKind::Ssh { .. });
        self.spec.hidden_env.is_empty()
            && !self.spec.mounts.iter().any(is_lent)
            && self.spec.devices.is_empty()
            && self.machine.shm_bytes == 0
    }

    fn cache_mounts(&self, inputs: &[Outcome]) -> Vec<CacheMountRequest> {
        mounts::caches(&self.spec.mounts, &inputs[1..])
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(self.run(inputs, context))
    }
}

/// A step that was started.
struct Running {
    // The step goes first when this is dropped: it is killed before its files are removed.
    step: Step,
    prepared: Prepared,
    staged: Staged,
    endpoint: Option<Endpoint>,
}

/// The hold on a step that another thread starts and waits for.
#[derive(Default)]
struct Leash(Mutex<(bool, Option<Killer>)>);

impl Leash {
    /// Kills the step, now or as soon as it has started.
    fn pull(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 = true;
        held.1.iter().for_each(kill);
    }

    fn tie(&self, killer: Killer) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 {
            kill(&killer);
        }
        held.1 = Some(killer);
    }
}

fn kill(killer: &Killer) {
    killer.kill(rustix::process::Signal::KILL.as_raw());
}

/// What a step left.
struct Ended {
    snapshot: SnapshotId,
    created: i64,
    /// Its layer is hashed already.
    is_hashed: bool,
}

impl Exec {
    /// The key; what is mounted enters as `mounted`, one for each mount that reads something, called `name`.
    fn key(&self, inputs: &[Outcome], name: &str, mounted: &[String]) -> Key {
        let spec = &self.spec;
        let mut key = KeyBuilder::new("exec", 1)
            .field("platform", &self.platform)
            .field("rootfs", inputs[0].id.to_string())
            .list("args", &spec.args)
            .field("cwd", &spec.cwd)
            .field("user", &spec.user)
            .field("network", format!("{:?}", spec.network));
        for (name, value) in &spec.env {
            key = key.hidden(&format!("env {name}"), value);
        }
        if !self.relies_on_plain_programs(&inputs[0]) {
            for (name, value) in &spec.unread_env {
                key = key.hidden(&format!("env {name}"), value);
            }
        }
        for (name, address) in &spec.add_hosts {
            key = key.field(&format!("host {name}"), address);
        }
        if spec.hostname != HOSTNAME {
            key = key.field("hostname", &spec.hostname);
        }
        if let Some(script) = &spec.script {
            key = key.field("script name", &script.name).hidden("script", &script.body);
        }
        if spec.insecure {
            key = key.field("security", "insecure");
        }
        for device in &spec.devices {
            key = key.field("device", &device.name);
        }
        for mount in &spec.mounts {
            key = key.field("mount", mounts::definition(mount));
        }
        for what in mounted {
            key = key.field(name, what);
        }
        Key { parts: key.parts(), digest: key.digest() }
    }

    /// Tells whether a mount reads something that only its bytes name.
    fn reads_more_than_named(&self) -> bool {
        let mut reads = self.spec.mounts.iter().filter_map(mounts::read_of);
        reads.any(|(read, _)| !self.named_by_content[read])
    }

    /// What the mounts show, in their order. Blocking.
    fn contents(&self, inputs: &[Outcome], store: &Store) -> Result<Vec<String>, OpError> {
        let reads = self.spec.mounts.iter().filter_map(mounts::read_of);
        let content = |(read, source): (usize, &str)| {
            let result = &inputs[1 + read];
            match self.named_by_content[read] {
                true => Ok(result.id.to_string()),
                false => mounts::content(result, source, store).map(|digest| digest.to_string()),
            }
        };
        reads.map(content).collect()
    }

    /// The key under which the outcome is recorded, made beside the running step: reading what it mounts may
    /// take long.
    fn own_key(
        &self,
        inputs: &[Outcome],
        context: &Context,
    ) -> tokio::task::JoinHandle<Result<Key, OpError>> {
        let (exec, inputs, store) = (self.clone(), inputs.to_vec(), context.store.clone());
        tokio::spawn(blocking::run("read mounted files", move || {
            let contents = exec.contents(&inputs, &store)?;
            Ok(exec.key(&inputs, "mounted", &contents))
        }))
    }

    /// Tells whether ARGs that the step's text can't read are read by nobody else.
    fn relies_on_plain_programs(&self, rootfs: &Outcome) -> bool {
        let relied = self.spec.relies_on.as_ref();
        relied.is_some_and(|relied| programs::are_plain(relied, rootfs, &self.store))
    }

    /// One blocking call from the start to the layer: a change of threads costs as much as a mount.
    async fn run(&self, inputs: &[Outcome], context: &Context) -> Result<Executed, OpError> {
        let own_key = self.reads_more_than_named().then(|| self.own_key(inputs, context));
        let leash = Arc::new(Leash::default());
        let work = {
            let (exec, inputs, context, leash) =
                (self.clone(), inputs.to_vec(), context.clone(), Arc::clone(&leash));
            let runtime = Handle::current();
            move || exec.run_here(&inputs, &context, &leash, &runtime)
        };
        let mut work = std::pin::pin!(blocking::run("run step", work));
        let ended = tokio::select! {
            biased;
            ended = &mut work => ended,
            () = context.stop.given() => {
                leash.pull();
                work.await
            }
        };
        let Ended { snapshot, created, is_hashed } = ended?;
        let key = match own_key {
            Some(task) => {
                task.await.unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))?
            }
            None => self.cheap_key(inputs),
        };
        let id = KeyBuilder::new("exec-result", 1)
            .field("key", key.digest.to_string())
            .field("run", snapshot.to_string())
            .digest();
        if !is_hashed {
            self.machine.diff_ids.start(&context.store, &snapshot, Maker::Program);
        }
        let mut chain = inputs[0].chain.clone();
        chain.push(snapshot);
        Ok(Executed { outcome: Outcome { id, chain, created }, key })
    }

    /// Runs the program and seals what it leaves. Blocking.
    fn run_here(
        &self,
        inputs: &[Outcome],
        context: &Context,
        leash: &Leash,
        runtime: &Handle,
    ) -> Result<Ended, OpError> {
        let (mut running, outputs) = self.start(inputs, context)?;
        leash.tie(running.step.killer());
        // Served until the step has ended; aborted by the drop.
        let mut beside = JoinSet::new();
        for door in running.prepared.doors.drain(..) {
            beside.spawn_on(door.serve(), runtime);
        }
        let mut log = Log::new(&context.store);
        forward(outputs, context, &mut log);
        self.end(running, now(), inputs, log)
    }

    /// Stages a snapshot, takes a network and starts the program. Blocking.
    fn start(&self, inputs: &[Outcome], context: &Context) -> Result<(Running, [OwnedFd; 2]), OpError> {
        let (rootfs, reads) = (&inputs[0], &inputs[1..]);
        let wanted: Vec<_> = self.spec.devices.iter().map(|one| (one.name.as_str(), one.required)).collect();
        let devices = cdi::edits(&wanted, self.machine.lent.cdi())?;
        let mut prepared = mounts::prepare(&self.spec.mounts, reads, &self.machine.lent, context)?;
        let below = rootfs.chain.last().map(|snapshot| context.store.snapshot_dir(snapshot));
        let Seat { mode, endpoint, ahead, staged } = self.machine.seat(self.spec.network)?;
        let staged = match staged {
            Some(staged) => staged,
            None => context.store.stage(&context.lease).map_err(|error| system(&error))?,
        };
        super::inherit_root(below.as_deref(), &staged.fs()).map_err(|error| system(&error))?;
        let namespace = match &endpoint {
            Some(endpoint) => Some(endpoint.namespace.try_clone().map_err(|error| system(&error))?),
            None if mode == NetworkMode::None => {
                Some(crate::network::loopback().map_err(|error| system(&error))?)
            }
            None => None,
        };
        let (out_reader, stdout) = io::pipe().map_err(|error| system(&error))?;
        let (err_reader, stderr) = io::pipe().map_err(|error| system(&error))?;
        let io = StepIo {
            stdin: None,
            stdout: stdout.into(),
            stderr: stderr.into(),
            keep: std::mem::take(&mut prepared.keep),
        };
        let mut spec = self.runtime_spec(rootfs, &staged, &mut prepared, context);
        spec.env.extend(devices.env);
        spec.mounts.extend(devices.mounts);
        spec.groups = devices.groups;
        let step = self
            .machine
            .launcher()?
            .run_from(ahead, &spec, io, namespace, || self.machine.look_ahead_to_next(mode, context))
            .map_err(|error| self.not_started(&error, inputs, context))?;
        Ok((Running { step, prepared, staged, endpoint }, [out_reader.into(), err_reader.into()]))
    }

    /// Waits for the end and seals what a program that did well left. Blocking.
    fn end(&self, running: Running, created: i64, inputs: &[Outcome], log: Log) -> Result<Ended, OpError> {
        let Running { step, prepared, staged, endpoint } = running;
        let exit = step.wait().map_err(|error| system(&error))?;
        drop(prepared);
        if let Some(endpoint) = endpoint {
            self.machine.release(endpoint, self.spec.insecure);
        }
        if exit.code() != 0 {
            return Err(self.failed(exit, log, inputs, &staged));
        }
        self.seal(staged, created)
    }

    /// Seals the staged folder. Blocking.
    fn seal(&self, staged: Staged, created: i64) -> Result<Ended, OpError> {
        let folder = staged.fs();
        let Usage { bytes, entries } = usage(&folder);
        let diff = match bytes <= SMALL_BYTES && entries <= SMALL_ENTRIES {
            true => self.machine.diff_ids.of_folder(&folder, Maker::Program),
            false => None,
        };
        let snapshot = staged.commit(Snapshot { bytes, created, diff, ..Snapshot::default() });
        let snapshot = snapshot.map_err(|error| system(&error))?;
        Ok(Ended { snapshot, created, is_hashed: diff.is_some() })
    }

    fn runtime_spec(
        &self,
        rootfs: &Outcome,
        staged: &Staged,
        prepared: &mut Prepared,
        context: &Context,
    ) -> Spec {
        let spec = &self.spec;
        let env = spec.env.iter().chain(&spec.unread_env).chain(&spec.hidden_env);
        let env = env.map(|(name, value)| format!("{name}={value}"));
        let file = |target: &str, content: String| Mount::File {
            target: target.to_owned(),
            content: Redacted::new(content),
            mode: 0o644,
            owner: (0, 0),
            readonly: true,
        };
        let known = [spec.add_hosts.clone(), self.machine.neighbours(spec.network)].concat();
        let hosts = crate::network::hosts_file(&spec.hostname, &[], None, &known);
        let mut mounts = vec![
            file("/etc/resolv.conf", self.machine.resolv_conf(spec.network)),
            file("/etc/hosts", hosts),
            file("/etc/hostname", format!("{}\n", spec.hostname)),
        ];
        if let Some(script) = &spec.script {
            mounts.push(Mount::File {
                target: format!("{SCRIPT_FOLDER}/{}", script.name),
                content: Redacted::new(script.body.clone()),
                mode: 0o755,
                owner: (0, 0),
                readonly: true,
            });
        }
        mounts.append(&mut prepared.mounts);
        Spec {
            id: staged.id().to_string(),
            rootfs: context.store.overlay(&rootfs.chain, Some(staged)),
            args: spec.args.clone(),
            env: env.collect(),
            secret_env: std::mem::take(&mut prepared.secret_env),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            hostname: spec.hostname.clone(),
            mounts,
            shm_bytes: self.machine.shm_bytes,
            rights: if spec.insecure { Rights::all() } else { Rights::default() },
            privileged: spec.insecure,
            ..step_spec(spec.network)
        }
    }

    /// The command as messages show it: a script of many lines isn't repeated whole.
    fn shown(&self) -> String {
        let command = self.spec.args.join(" ");
        match command.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => format!("{:?}", format!("{}…", &command[..end])),
            None => format!("{command:?}"),
        }
    }

    /// A program that isn't there, or isn't one, is the Dockerfile's mistake; all else the machine's.
    fn not_started(&self, error: &StartError, inputs: &[Outcome], context: &Context) -> OpError {
        let mut failure = match error.kind {
            StartErrorKind::Other => {
                let message = format!("process {} could not be started", self.shown());
                Failure::new(FailureKind::System, message)
            }
            StartErrorKind::NotFound | StartErrorKind::NotExecutable => {
                let code = error.exit_code();
                let message =
                    format!("process {} did not complete successfully: exit code: {code}", self.shown());
                Failure::new(FailureKind::Step(code), message)
            }
        };
        failure.causes.push(error.message.clone());
        if let Some(hint) = &error.hint {
            failure = failure.hint(hint);
        }
        if error.kind == StartErrorKind::NotFound && error.hint.is_none() {
            let scene = Scene { spec: &self.spec, inputs, staged: None, store: &context.store };
            failure = scene.missing_program().tell(failure);
        }
        Box::new(failure)
    }

    fn failed(&self, exit: Exit, log: Log, inputs: &[Outcome], staged: &Staged) -> OpError {
        let code = exit.code();
        let how = match exit {
            Exit::Code(code) => format!("exit code: {code}"),
            Exit::Signal(signal) => format!("killed by signal {signal} (exit code: {code})"),
        };
        let message = format!("process {} did not complete successfully: {how}", self.shown());
        let mut failure = Failure::new(FailureKind::Step(code), message);
        let (tail, whole) = log.end();
        let scene = Scene { spec: &self.spec, inputs, staged: Some(staged), store: staged.store() };
        failure = scene.exit(code, &tail).tell(failure);
        failure.log_tail = Some((self.name.clone(), tail));
        failure.log = Some(whole);
        Box::new(failure)
    }
}

/// Sends what comes out of both pipes as events until both are closed. Blocking.
fn forward([stdout, stderr]: [OwnedFd; 2], context: &Context, log: &mut Log) {
    let mut open = vec![(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
    let mut buffer = vec![0; READ_BYTES];
    while !open.is_empty() {
        let mut awaited: Vec<_> = open.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::IN)).collect();
        // Fails for want of memory only; then the reads wait.
        let _ = rustix::io::retry_on_intr(|| poll(&mut awaited, None));
        let mut is_ready: Vec<bool> = awaited.iter().map(|fd| !fd.revents().is_empty()).collect();
        if !is_ready.contains(&true) {
            is_ready.fill(true);
        }
        let mut is_ready = is_ready.into_iter();
        open.retain(|(pipe, stream)| {
            if is_ready.next() != Some(true) {
                return true;
            }
            let Ok(count @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer[..]))
            else {
                return false;
            };
            log.push(&buffer[..count]);
            if let Some(step) = context.step {
                let bytes = buffer[..count].to_vec();
                context.events.send(Event::Output { step, stream: *stream, bytes });
            }
            true
        });
    }
}

/// What a folder takes.
#[derive(Default)]
struct Usage {
    /// The bytes of its regular files.
    bytes: u64,
    /// How many files and folders it has.
    entries: usize,
}

/// Walks `folder`; what can't be read counts nothing.
///
/// One thread: to start a second one costs more than most layers have to be walked.
fn usage(folder: &Path) -> Usage {
    let mut usage = Usage::default();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            usage.entries += 1;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    usage.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                }
                _ => {}
            }
        }
    }
    usage
}
