//! The loop of a process that stands behind a program: it moves bytes, carries out what clients ask for, and lets
//! its duties have their turn.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clients::{ClientId, Clients};
use super::streams::Streams;
use crate::container::wire::Packet;
use crate::runtime::{Limits, OomWatch, Process, StartError, Target};
use crate::sys::text;

/// A program that runs, as its monitor holds it.
pub(in crate::container) trait Running {
    /// Readable when it has ended.
    fn pidfd(&self) -> BorrowedFd<'_>;
    /// What others need to find it again.
    fn target(&self) -> io::Result<Target>;
    /// Sends a signal to its first process; fine when it has ended.
    fn kill(&self, signal: i32) -> io::Result<()>;
    /// Waits for its end; gives the code, 128 + n for a signal.
    fn wait(&mut self) -> io::Result<i32>;
    /// Tells whether the kernel killed one of its processes for memory.
    fn oom_killed(&self) -> bool;
    /// What wakes up when that may have happened.
    fn oom_watch(&self) -> Option<OomWatch>;
    /// Begins to freeze its processes, or lets them go on.
    fn freeze(&self, frozen: bool) -> Result<(), StartError>;
    /// Tells whether all of them are frozen.
    fn is_frozen(&self) -> bool;
    /// Changes its limits.
    fn limit(&self, limits: &Limits) -> Result<(), StartError>;
    /// Takes its network namespace, where that may stay for a moment after it.
    fn take_network(&mut self) -> Option<OwnedFd> {
        None
    }
    /// Takes away what it stood on.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Running for Process {
    fn pidfd(&self) -> BorrowedFd<'_> {
        Process::pidfd(self)
    }

    fn target(&self) -> io::Result<Target> {
        Process::target(self)
    }

    fn kill(&self, signal: i32) -> io::Result<()> {
        Process::kill(self, signal)
    }

    fn wait(&mut self) -> io::Result<i32> {
        Ok(Process::wait(self)?.code())
    }

    fn oom_killed(&self) -> bool {
        Process::oom_killed(self)
    }

    fn oom_watch(&self) -> Option<OomWatch> {
        self.cgroup().oom_watch()
    }

    fn freeze(&self, frozen: bool) -> Result<(), StartError> {
        Process::freeze(self, frozen)
    }

    fn is_frozen(&self) -> bool {
        self.cgroup().is_frozen()
    }

    fn limit(&self, limits: &Limits) -> Result<(), StartError> {
        Process::limit(self, limits)
    }

    fn take_network(&mut self) -> Option<OwnedFd> {
        Process::take_network(self)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Process::finish(*self).map(drop)
    }
}

/// Nothing happens for so long, and nothing is due.
const QUIET: Duration = Duration::from_secs(1);

/// What a duty works with; `K` keeps the record, where there is one.
pub(in crate::container) struct Hands<'a, K> {
    /// The program; none while it waits to be started again.
    pub(in crate::container) process: Option<&'a dyn Running>,
    pub(in crate::container) streams: &'a mut Streams,
    pub(in crate::container) clients: &'a mut Clients,
    pub(in crate::container) keeper: &'a mut K,
    /// Set to end the loop.
    pub(in crate::container) is_over: bool,
}

/// Something that a monitor does beside moving bytes. It must not block, and not start a thread.
pub(in crate::container) trait Duty<K> {
    /// What else to wait for.
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        Vec::new()
    }

    /// When it wants its turn at the latest.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Has its turn: after every poll, with what [`Self::poll_fds`] gave.
    fn handle(&mut self, _events: &[PollFlags], _now: Instant, _hands: &mut Hands<'_, K>) -> io::Result<()> {
        Ok(())
    }

    /// Takes a request, if it is one for this duty.
    fn request(&mut self, _from: ClientId, _request: &Packet, _hands: &mut Hands<'_, K>) -> bool {
        false
    }
}

/// The duties of a loop.
pub(in crate::container) type Duties<K> = Vec<Box<dyn Duty<K>>>;

/// Attends to everybody until the program has ended; without one, until a duty says so.
pub(in crate::container) fn serve<K>(
    hands: &mut Hands<'_, K>,
    listener: Option<&OwnedFd>,
    duties: &mut Duties<K>,
) -> io::Result<()> {
    while !hands.is_over {
        let Some(events) = wait(hands, listener, duties)? else { continue };
        hands.streams.handle(&events.streams, hands.clients);
        for (from, request) in hands.clients.handle(&events.clients) {
            carry_out(from, request, hands, duties);
        }
        if let (Some(listener), true) = (listener, events.listener) {
            hands.clients.accept(listener);
        }
        hands.is_over |= events.process;
        let now = Instant::now();
        for (duty, events) in duties.iter_mut().zip(&events.duties) {
            duty.handle(events, now, hands)?;
        }
    }
    Ok(())
}

/// Who has something.
struct Events {
    process: bool,
    streams: Vec<PollFlags>,
    clients: Vec<PollFlags>,
    listener: bool,
    duties: Vec<Vec<PollFlags>>,
}

/// Waits for something to do; `None` after an interruption.
fn wait<K>(
    hands: &Hands<'_, K>,
    listener: Option<&OwnedFd>,
    duties: &Duties<K>,
) -> io::Result<Option<Events>> {
    let pidfd = hands.process.map(Running::pidfd);
    let mut fds: Vec<PollFd<'_>> =
        pidfd.as_ref().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).into_iter().collect();
    let streams = fds.len();
    // A client that doesn't take its output holds the program back, as a full pipe would.
    fds.extend(hands.streams.poll_fds(hands.clients.has_room()));
    let clients = fds.len();
    fds.extend(hands.clients.poll_fds(hands.streams.has_room()));
    let others = fds.len();
    fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    let mut ends = vec![fds.len()];
    for duty in duties {
        fds.extend(duty.poll_fds());
        ends.push(fds.len());
    }
    let deadline = duties.iter().filter_map(|duty| duty.deadline()).min();
    let timeout = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    // Most of its life a monitor waits: what it once ran needn't stay in its memory.
    let waited = match timeout {
        Some(_) => poll(&mut fds, timeout.as_ref()),
        None => poll(&mut fds, Some(&timespec(QUIET))).and_then(|ready| match ready {
            0 => {
                let _ = text::give_back();
                poll(&mut fds, None)
            }
            ready => Ok(ready),
        }),
    };
    match waited {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    let any = |events: &[PollFlags]| events.iter().any(|events| !events.is_empty());
    Ok(Some(Events {
        process: any(&events[..streams]),
        streams: events[streams..clients].to_vec(),
        clients: events[clients..others].to_vec(),
        listener: any(&events[others..ends[0]]),
        duties: ends.windows(2).map(|ends| events[ends[0]..ends[1]].to_vec()).collect(),
    }))
}

fn carry_out<K>(from: ClientId, request: Packet, hands: &mut Hands<'_, K>, duties: &mut Duties<K>) {
    match &request {
        Packet::Stdin(bytes) => hands.streams.feed(bytes),
        Packet::StdinEnd => hands.streams.end_input(),
        Packet::Resize(rows, columns) => hands.streams.resize(*rows, *columns),
        Packet::Signal(signal) => {
            if let Some(process) = hands.process {
                let _ = process.kill(*signal);
            }
        }
        _ => {
            if !duties.iter_mut().any(|duty| duty.request(from, &request, hands)) {
                let text = "this container can't be asked for that".to_owned();
                hands.clients.answer(from, &Packet::Refused(text));
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
