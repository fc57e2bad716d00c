//! A further process in a running container.
//!
//! It has a helper process of its own, as a container has a monitor: single-threaded, run from a read-only clone
//! of this program, parent of the new process, and still there when the caller is gone. It keeps no log.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use kiln_cache::Mounts;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::attach::Attachment;
use super::create::set;
use super::error::{At, Error, Result};
use super::launch::{Streams, accept_task, spawn, spawn_child};
use super::record::Record;
use super::wire::{self, Packet, Wants};
use super::{Containers, monitor, spec};
use crate::api::{ContainerState, ExecRequest};
use crate::runtime::{self, ExecSpec, Process, StartError, Target};

/// What the helper has to do.
#[derive(Debug, Serialize, Deserialize)]
struct ExecTask {
    target: Target,
    spec: ExecSpec,
    interactive: bool,
    wants: Wants,
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
        let task = ExecTask {
            target,
            spec: ExecSpec { tools, ..exec_spec(record, request, streams.size)? },
            interactive: request.interactive,
            wants: Wants {
                stdout: streams.outputs,
                stderr: streams.outputs,
                stdin: streams.stdin,
                ends_stdin: streams.stdin,
            },
        };
        let socket = spawn("_exec", &task, &[]).at("start a helper for", self.folder(&record.id))?;
        match wire::receive(&socket, RecvFlags::empty()) {
            Ok(Some(Packet::Started(_))) => Ok(Attachment::of_exec(socket, name, request.tty)),
            Ok(Some(Packet::Failed(source))) => Err(Error::Exec { name, source }),
            _ => Err(Error::MonitorLost { name }),
        }
    }
}

/// Starts a further process of the container itself, such as a probe of its health, whose output comes through the
/// socket. The caller has to reap the helper.
pub(super) fn spawn_inner(record: &Record, command: &[String]) -> Result<(OwnedFd, Child)> {
    let name = || record.name.clone();
    let target = record.state.process.clone().ok_or_else(|| Error::NotRunning { name: name() })?;
    let request = ExecRequest { command: command.to_vec(), ..ExecRequest::default() };
    let wants = Wants { stdout: true, stderr: true, ..Wants::default() };
    let task = ExecTask { target, spec: exec_spec(record, &request, None)?, interactive: false, wants };
    spawn_child("_exec", &task, &[]).at("start a helper for", name())
}

fn exec_spec(record: &Record, request: &ExecRequest, size: Option<(u16, u16)>) -> Result<ExecSpec> {
    let config = &record.config;
    let cwd = request.workdir.clone().unwrap_or_else(|| config.cwd.clone());
    if !cwd.is_empty() && !cwd.starts_with('/') {
        let message = format!("the working directory `{cwd}` is invalid, it needs to be an absolute path");
        return Err(Error::Invalid { message });
    }
    let mut env = config.env.clone();
    if request.tty {
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
    let served = accept_task::<ExecTask>().and_then(|(socket, task, _)| serve(socket, &task));
    i32::from(served.is_err())
}

fn serve(socket: OwnedFd, task: &ExecTask) -> io::Result<()> {
    let mut clients = monitor::Clients::new(socket, task.wants);
    let (mut process, mut streams) = match start(task) {
        Ok(started) => started,
        Err(error) => {
            clients.broadcast(&Packet::Failed(error));
            clients.flush_all();
            return Ok(());
        }
    };
    clients.started(process.pid().unsigned_abs());
    let mut hands = monitor::Hands {
        process: Some(&process),
        streams: &mut streams,
        clients: &mut clients,
        keeper: &mut (),
        is_over: false,
    };
    monitor::serve(&mut hands, None, &mut Vec::new())?;
    let code = process.wait()?.code();
    streams.drain(&mut clients);
    clients.ended(code, false);
    clients.flush_all();
    Ok(())
}

fn start(task: &ExecTask) -> std::result::Result<(Process, monitor::Streams), StartError> {
    let pipes = |error: io::Error| StartError::new("pipe", format!("cannot make pipes: {error}"));
    let made = monitor::Streams::make(task.spec.tty.is_some(), task.interactive, None);
    let (stdio, mut streams) = made.map_err(pipes)?;
    let mut process = runtime::exec(&task.target, &task.spec, stdio)?;
    if let Some(master) = process.take_pty() {
        streams.set_terminal(master).map_err(pipes)?;
    }
    Ok((process, streams))
}
