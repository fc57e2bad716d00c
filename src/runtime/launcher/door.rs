//! The launcher's own side: a poll loop over the control socket, and for each step its status socket and either
//! the channel of its start or its first process.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::DumpableBehavior;

use super::{Order, Reply, Request};
use crate::runtime::child::{AHEAD, read_spec};
use crate::runtime::error::{At, StartError};
use crate::runtime::process::{Process, Starting, Stdio, kill};
use crate::runtime::rootfs::Stubs;
use crate::runtime::wire;
use crate::sys;

/// With more slots than this, steps take their mounts down themselves, side by side, and not this one thread.
const FEW: usize = 4;

/// A step from its request to its end.
#[derive(Debug)]
struct Slot {
    status: OwnedFd,
    /// The engine has closed its side: the step is being killed.
    abandoned: bool,
    stage: Stage,
    /// Closed when every process of the step is dead: last in the order of drops.
    kept: Vec<OwnedFd>,
}

#[derive(Debug)]
enum Stage {
    /// Started ahead; its order to run is still to come.
    Ahead(Starting),
    Starting(Starting),
    Running(Process),
}

impl Slot {
    fn process(&self) -> &Process {
        match &self.stage {
            Stage::Ahead(starting) | Stage::Starting(starting) => &starting.process,
            Stage::Running(process) => process,
        }
    }

    fn kill(&self, signal: i32) {
        // One that has ended is about to be reaped.
        let _ = kill(self.process().pidfd(), signal);
    }

    fn tell(&self, reply: &Reply) {
        // An engine that is gone needs no answer; its end is noticed by the control socket.
        let _ = wire::send(&self.status, reply, &[]);
    }
}

/// Serves requests on the socket that is stdin until it is closed, then kills all steps; returns the exit code.
///
/// The door of `kiln _launcher`, to be called before any thread starts.
pub fn launcher_main() -> i32 {
    match prepare().and_then(|control| serve(&control)) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn prepare() -> io::Result<OwnedFd> {
    rustix::process::chdir("/")?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Nothing but the three standard descriptors and the copy above is this process's own yet.
    sys::fds::close_all_except(3, &[control.as_raw_fd()])?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    // A Ctrl-C at the terminal is for the engine alone.
    rustix::process::setsid()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(control)
}

fn serve(control: &OwnedFd) -> io::Result<()> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut stubs = Stubs::default();
    loop {
        let ready = wait(control, &slots)?;
        // From the last one on, so that removal leaves the earlier indices right.
        for index in (0..slots.len()).rev() {
            let (status, stage) = (ready[1 + 2 * index], ready[2 + 2 * index]);
            if status {
                let slot = slots.swap_remove(index);
                let others = slots.len();
                slots.extend(obey(slot, others, &mut stubs));
            } else if stage {
                let slot = slots.swap_remove(index);
                slots.extend(advance(slot));
            }
        }
        if ready[0] {
            match wire::receive::<Request>(control)? {
                Some((request, fds)) => slots.extend(begin(&request, fds, &mut stubs)),
                None => break,
            }
        }
    }
    for slot in &slots {
        slot.kill(libc::SIGKILL);
    }
    // The drops wait for each and clean up.
    Ok(())
}

/// Waits for something to do; tells which descriptors are ready: control, then status and stage of each slot.
fn wait(control: &OwnedFd, slots: &[Slot]) -> io::Result<Vec<bool>> {
    let mut fds = vec![PollFd::new(control, PollFlags::IN)];
    for slot in slots {
        let interest = if slot.abandoned { PollFlags::empty() } else { PollFlags::IN };
        fds.push(PollFd::new(&slot.status, interest));
        fds.push(match &slot.stage {
            Stage::Ahead(starting) | Stage::Starting(starting) => {
                PollFd::from_borrowed_fd(starting.channel(), PollFlags::IN)
            }
            Stage::Running(process) => PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN),
        });
    }
    // An abandoned status socket hangs up for ever and must not keep the loop busy.
    let abandoned: Vec<usize> = (slots.iter().enumerate())
        .filter(|(_, slot)| slot.abandoned)
        .map(|(index, _)| 1 + 2 * index)
        .collect();
    for index in abandoned {
        fds[index] = PollFd::new(control, PollFlags::empty());
    }
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    for (index, slot) in slots.iter().enumerate() {
        ready[1 + 2 * index] &= !slot.abandoned;
    }
    Ok(ready)
}

fn begin(request: &Request, fds: Vec<OwnedFd>, stubs: &mut Stubs) -> Option<Slot> {
    let mut fds = fds.into_iter();
    let (spec, status) = (fds.next()?, fds.next()?);
    let stage = match request.ahead {
        true => start_ahead(request, &spec, &mut fds).map(Stage::Ahead),
        false => start(request, &spec, &mut fds, stubs).map(Stage::Starting),
    };
    match stage {
        Ok(stage) => Some(Slot { stage, status, kept: fds.collect(), abandoned: false }),
        Err(error) => {
            let _ =
                wire::send(&status, &if request.ahead { Reply::Missed } else { Reply::Failed(error) }, &[]);
            None
        }
    }
}

fn start(
    request: &Request,
    spec: &OwnedFd,
    fds: &mut impl Iterator<Item = OwnedFd>,
    stubs: &mut Stubs,
) -> Result<Starting, StartError> {
    let stdio = stdio(request.stdin, fds)?;
    let netns = if request.netns { Some(fds.next().ok_or_else(missing)?) } else { None };
    Starting::begin(&read_spec(spec)?, Stdio::Fds(stdio), netns, stubs)
}

fn start_ahead(
    request: &Request,
    spec: &OwnedFd,
    fds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Starting, StartError> {
    let netns = if request.netns { Some(fds.next().ok_or_else(missing)?) } else { None };
    Starting::begin_ahead(&read_spec(spec)?, netns)
}

/// Takes stdout and stderr, then stdin when it was given.
fn stdio(stdin: bool, fds: &mut impl Iterator<Item = OwnedFd>) -> Result<[OwnedFd; 3], StartError> {
    let (stdout, stderr) = (fds.next().ok_or_else(missing)?, fds.next().ok_or_else(missing)?);
    let stdin = match stdin {
        true => fds.next().ok_or_else(missing)?,
        false => File::open("/dev/null").at("launcher", || "cannot open `/dev/null`")?.into(),
    };
    Ok([stdin, stdout, stderr])
}

fn missing() -> StartError {
    StartError::new("launcher", "the request lacks a descriptor")
}

/// Follows an order; `None` when the slot is over.
fn obey(mut slot: Slot, others: usize, stubs: &mut Stubs) -> Option<Slot> {
    match wire::receive::<Order>(&slot.status) {
        Ok(Some((Order::Kill(signal), _))) => slot.kill(signal),
        Ok(Some((Order::Run { stdin }, fds))) => {
            if let Stage::Ahead(starting) = &mut slot.stage
                && others > FEW
            {
                starting.process.leave_namespace();
            }
            return run(slot, stdin, fds, stubs);
        }
        Ok(None) | Err(_) => {
            slot.abandoned = true;
            slot.kill(libc::SIGKILL);
        }
    }
    Some(slot)
}

/// Lets a child that was started ahead go on.
fn run(slot: Slot, stdin: bool, fds: Vec<OwnedFd>, stubs: &mut Stubs) -> Option<Slot> {
    let Slot { status, stage: Stage::Ahead(mut starting), .. } = slot else { return Some(slot) };
    let mut fds = fds.into_iter();
    let mut go = || {
        let file = fds.next().ok_or_else(missing)?;
        let stdio = stdio(stdin, &mut fds)?;
        starting.go(&read_spec(&file)?, &file, &stdio, stubs, false)
    };
    match go() {
        Ok(()) => {
            Some(Slot { status, stage: Stage::Starting(starting), kept: fds.collect(), abandoned: false })
        }
        Err(error) => {
            drop(starting);
            let _ = wire::send(&status, &refusal(error), &[]);
            None
        }
    }
}

fn refusal(error: StartError) -> Reply {
    if error.stage == AHEAD { Reply::Missed } else { Reply::Failed(error) }
}

/// Takes one step of a slot whose channel or process is ready; `None` when it is over.
fn advance(mut slot: Slot) -> Option<Slot> {
    match slot.stage {
        Stage::Ahead(starting) => {
            // It has failed. What failed is told when the step is started anew.
            drop(starting);
            let _ = wire::send(&slot.status, &Reply::Missed, &[]);
            None
        }
        Stage::Starting(mut starting) => match starting.advance() {
            Ok(false) => {
                slot.stage = Stage::Starting(starting);
                Some(slot)
            }
            Ok(true) => {
                let pid = starting.process.pid();
                slot.stage = Stage::Running(starting.process);
                slot.tell(&Reply::Started { pid });
                Some(slot)
            }
            Err(error) => {
                // Killed, reaped and unmounted before the failure is told.
                drop(starting);
                let _ = wire::send(&slot.status, &refusal(error), &[]);
                None
            }
        },
        Stage::Running(mut process) => {
            let ended = process.end();
            drop(slot.kept);
            if let Ok(ended) = ended {
                let _ = wire::send(&slot.status, &Reply::Ended(ended), &[]);
            }
            // What is left of its mounts goes while the engine puts the layer down, and before the next one mounts it.
            drop(process);
            None
        }
    }
}
