//! A further process in a running container.
//!
//! It has a helper process of its own, as a container has a monitor: single-threaded, run from a read-only clone
//! of this program, parent of the new process, and still there when the caller is gone. It keeps no log.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;

use kiln_cache::Mounts;
use rustix::fs::{FlockOperation, flock};
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, EXEC, hand_over};
use super::attach::Attachment;
use super::create::set;
use super::error::{At, Error, Result};
use super::events::event;
use super::foreign::Foreign;
use super::helper::{self, Helper};
use super::launch::Streams;
use super::record::Record;
use super::wire::{self, Packet, Wants};
use super::{Containers, links, monitor, names, now, spec};
use crate::api::{ContainerState, EngineEvent, ExecRequest};
use crate::events::Log;
use crate::runtime::{self, ExecSpec, StartError, Target};
use crate::sys;

/// What lists of processes show: what the caller typed may hold secrets, and is the caller's.
const TITLE: &str = "kiln _exec";

/// Where a container's folder shows its further processes.
const FOLDER: &str = "execs";

/// What the helper has to do.
#[derive(Debug, Serialize, Deserialize)]
struct ExecTask {
    target: Target,
    spec: ExecSpec,
    /// The container's runtime, when it isn't kiln's own.
    foreign: Option<Foreign>,
    interactive: bool,
    wants: Wants,
    /// How others know of it; a probe of the container's health is nobody's.
    known: Option<Known>,
}

/// How others know of a further process.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    root: PathBuf,
    /// `execs/<64 hex>` of the container: locked while the process runs.
    file: PathBuf,
    /// What is told at its end, without the code.
    end: EngineEvent,
}

impl Containers {
    /// Starts a further process; returns once its program runs.
    ///
    /// With `tools`, the layers of an image, it sees their files where the container has none.
    pub fn exec(
        &self,
        record: &Record,
        request: &ExecRequest,
        tools: Option<Mounts>,
        streams: &Streams,
    ) -> Result<Attachment> {
        let name = record.name.clone();
        if record.state.status == ContainerState::Paused {
            return Err(Error::Paused { name });
        }
        let Some(target) = record.state.process.clone() else { return Err(Error::NotRunning { name }) };
        let id = names::random_id().at("read", "/dev/urandom")?;
        let details = [("execID", id.clone())];
        let known = Known {
            root: self.root.clone(),
            file: self.folder(&record.id).join(FOLDER).join(id),
            end: event(record, "exec_die", &details),
        };
        let task = ExecTask {
            known: Some(known),
            foreign: Foreign::of(record, &self.folder(&record.id))?.filter(|_| tools.is_none()),
            target,
            spec: ExecSpec { tools, ..exec_spec(record, &self.folder(&record.id), request, streams.size)? },
            interactive: request.interactive,
            wants: Wants {
                stdout: streams.outputs,
                stderr: streams.outputs,
                stdin: streams.stdin,
                ends_stdin: streams.stdin,
            },
        };
        let command = request.command.join(" ");
        let begun = ["exec_create", "exec_start"].map(|action| format!("{action}: {command}"));
        // Before the helper can tell of the end.
        self.events.tell(&begun.map(|action| event(record, &action, &details)));
        let mut ahead = self.take_ahead(EXEC).filter(|ahead| ahead.may_run(&task.spec.rights));
        let awake = ahead.as_mut().and_then(Ahead::take_awake);
        let socket = hand_over(ahead, EXEC, &task, &[]).at("start a helper for", self.folder(&record.id))?;
        match wire::receive(&socket, RecvFlags::empty()) {
            Ok(Some(Packet::Started(_))) => {
                Ok(Attachment::of_exec(socket, name, request.tty).while_awake(awake))
            }
            Ok(Some(Packet::Failed(source))) => Err(Error::Exec { name, source }),
            _ => Err(Error::MonitorLost { name }),
        }
    }
}

impl Containers {
    /// Lists the further processes that run in container `id`.
    pub fn execs(&self, id: &str) -> Vec<String> {
        let folder = self.folder(id).join(FOLDER);
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(io::Result::ok);
        let mut ids: Vec<String> = entries
            // A file that nobody has locked was left by a helper that was killed.
            .filter(|entry| File::open(entry.path()).is_ok_and(|file| lock(&file).is_err()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }
}

impl Known {
    /// Shows that it runs; ends with the file.
    fn show(&self) -> io::Result<File> {
        if let Some(folder) = self.file.parent() {
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let file = File::create(&self.file)?;
        lock(&file)?;
        Ok(file)
    }

    /// Tells that it has ended.
    fn ended(&self, code: i32) {
        let _ = std::fs::remove_file(&self.file);
        let mut end = EngineEvent { time: now(), ..self.end.clone() };
        end.attributes.insert("exitCode".to_owned(), code.to_string());
        Log::new(&self.root).tell(&[end]);
    }
}

fn lock(file: &File) -> rustix::io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Starts a further process of the container itself, such as a probe of its health, whose output comes through the
/// socket. The caller has to reap the helper.
pub(super) fn spawn_inner(record: &Record, folder: &Path, command: &[String]) -> Result<(OwnedFd, Child)> {
    let name = || record.name.clone();
    let target = record.state.process.clone().ok_or_else(|| Error::NotRunning { name: name() })?;
    let request = ExecRequest { command: command.to_vec(), ..ExecRequest::default() };
    let wants = Wants { stdout: true, stderr: true, ..Wants::default() };
    let spec = exec_spec(record, folder, &request, None)?;
    let foreign = Foreign::of(record, folder)?;
    let task = ExecTask { target, spec, foreign, interactive: false, wants, known: None };
    Helper::child(&[EXEC], &task, &[]).at("start a helper for", name())
}

fn exec_spec(
    record: &Record,
    folder: &Path,
    request: &ExecRequest,
    size: Option<(u16, u16)>,
) -> Result<ExecSpec> {
    let config = &record.config;
    let cwd = request.workdir.clone().unwrap_or_else(|| config.cwd.clone());
    if !cwd.is_empty() && !cwd.starts_with('/') {
        let message = format!("the working directory `{cwd}` is invalid, it needs to be an absolute path");
        return Err(Error::Invalid { message });
    }
    let mut env = links::env(record, folder, &record.state.endpoints);
    if request.tty && !env.iter().any(|line| line.starts_with("TERM=")) {
        set(&mut env, "TERM=xterm");
    }
    for line in &request.env {
        set(&mut env, line);
    }
    Ok(ExecSpec {
        args: request.command.clone(),
        env,
        cwd,
        user: request.user.clone().unwrap_or_else(|| config.user.clone()),
        tty: request.tty.then(|| size.unwrap_or((24, 80))),
        groups: config.isolation.group_add.clone(),
        rights: spec::rights(config, request.privileged)?,
        rlimits: spec::rlimits(config),
        ids: config.ids,
        ..ExecSpec::default()
    })
}

/// The door `kiln _exec`: to be called before any thread starts; gives the process's exit code.
pub fn exec_main() -> i32 {
    helper::settle_in().map_or(1, work)
}

/// What a helper does, in which way it was started.
pub(super) fn work(socket: OwnedFd) -> i32 {
    let served = helper::receive_task::<ExecTask>(&socket).and_then(|given| match given {
        Some(given) => serve(socket, &given.task),
        None => Ok(()),
    });
    i32::from(served.is_err())
}

fn serve(socket: OwnedFd, task: &ExecTask) -> io::Result<()> {
    let mut clients = monitor::Clients::new(socket, task.wants);
    // Without its file it runs as well.
    let _shown = task.known.as_ref().map(|known| known.show());
    let (mut process, mut streams) = match start(task) {
        Ok(started) => started,
        Err(error) => {
            if let Some(known) = &task.known {
                known.ended(error.exit_code());
            }
            clients.broadcast(&Packet::Failed(error));
            clients.flush_all();
            return Ok(());
        }
    };
    clients.started(process.target().map_or(0, |target| target.pid).unsigned_abs());
    let _ = sys::title::set(TITLE);
    let mut hands = monitor::Hands {
        process: Some(&*process),
        streams: &mut streams,
        clients: &mut clients,
        keeper: &mut (),
        is_over: false,
    };
    monitor::serve(&mut hands, None, &mut Vec::new())?;
    let code = process.wait()?;
    streams.drain(&mut clients);
    if let Some(known) = &task.known {
        known.ended(code);
    }
    clients.ended(code, false);
    clients.flush_all();
    Ok(())
}

type Started = (Box<dyn monitor::Running>, monitor::Streams);

fn start(task: &ExecTask) -> std::result::Result<Started, StartError> {
    let pipes = |error: io::Error| StartError::new("pipe", format!("cannot make pipes: {error}"));
    let made = monitor::Streams::make(task.spec.tty.is_some(), task.interactive, None);
    let (stdio, mut streams) = made.map_err(pipes)?;
    let (process, master): (Box<dyn monitor::Running>, _) = match &task.foreign {
        Some(foreign) => {
            let (process, master) = foreign.exec(&task.target, &task.spec, stdio)?;
            (Box::new(process), master)
        }
        None => {
            let mut process = runtime::exec(&task.target, &task.spec, stdio)?;
            let master = process.take_pty();
            (Box::new(process), master)
        }
    };
    if let Some(master) = master {
        streams.set_terminal(master).map_err(pipes)?;
    }
    Ok((process, streams))
}
