//! Looks whether a container is healthy.
//!
//! A probe is a further process with a helper of its own, whose socket is polled with all others: the monitor
//! waits neither for the probe nor for its start.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;

use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::api::{ContainerState, Health, HealthCheck, HealthProbe, HealthStatus};
use crate::container::exec::spawn_inner;
use crate::container::wire::{self, Packet};
use crate::container::{health, now};

/// How many probes are kept.
const KEPT: usize = 5;
/// How much of a probe's output is kept.
const OUTPUT_BYTES: usize = 4096;
/// The code of a probe that has none.
const NO_CODE: i32 = -1;

/// The checks of one run of the program.
pub(super) struct Checks {
    check: HealthCheck,
    started: Instant,
    next: Instant,
    probe: Option<Probe>,
}

/// A probe that runs.
struct Probe {
    socket: OwnedFd,
    start: i64,
    deadline: Instant,
    /// Whether its failure counts.
    counts: bool,
    output: Vec<u8>,
    is_cut: bool,
}

impl Checks {
    /// Begins with the program.
    pub(super) fn new(check: HealthCheck, keeper: &Keeper) -> Self {
        let now = Instant::now();
        let mut checks = Self { check, started: now, next: now, probe: None };
        checks.next = now + checks.pause(keeper, now);
        checks
    }

    /// Tells whether failures don't count yet.
    fn is_starting(&self, keeper: &Keeper, now: Instant) -> bool {
        let status = keeper.record.state.health.as_ref().map(|health| health.status);
        status == Some(HealthStatus::Starting)
            && now.saturating_duration_since(self.started) < nanos(self.check.start_period)
    }

    fn pause(&self, keeper: &Keeper, now: Instant) -> Duration {
        nanos(if self.is_starting(keeper, now) { self.check.start_interval } else { self.check.interval })
    }

    fn start(&mut self, at: Instant, keeper: &mut Keeper) {
        let start = now();
        let counts = !self.is_starting(keeper, at);
        let command = health::command(&self.check, &keeper.record.config.shell);
        match spawn_inner(&keeper.record, &keeper.folder, &command) {
            Ok((socket, helper)) => {
                keeper.helpers.push(helper);
                let deadline = at + nanos(self.check.timeout);
                self.probe =
                    Some(Probe { socket, start, deadline, counts, output: Vec::new(), is_cut: false });
            }
            Err(error) => {
                let probe = HealthProbe { start, end: now(), exit_code: NO_CODE, output: error.to_string() };
                self.ended(at, keeper, probe, counts);
            }
        }
    }

    /// Notes the end of a probe.
    fn ended(&mut self, at: Instant, keeper: &mut Keeper, probe: HealthProbe, counts: bool) {
        let Some(health) = &mut keeper.record.state.health else { return };
        let before = health.status;
        note(health, probe, counts, self.check.retries);
        let status = health.status;
        if status != before {
            keeper.tell(&format!("health_status: {}", status.name()), &[]);
        }
        // What can't be written now is written with the next one.
        let _ = keeper.write();
        self.next = at + self.pause(keeper, at);
    }
}

/// Adds a probe to what is known of the health.
fn note(health: &mut Health, probe: HealthProbe, counts: bool, retries: u32) {
    if probe.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else if counts {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    health.log.push(probe);
    let surplus = health.log.len().saturating_sub(KEPT);
    health.log.drain(..surplus);
}

impl Probe {
    /// Takes in what has come; gives the code and the output at the end.
    fn read(&mut self) -> Option<(i32, String)> {
        loop {
            match wire::receive(&self.socket, RecvFlags::DONTWAIT) {
                Ok(Some(Packet::Stdout(bytes) | Packet::Stderr(bytes))) => self.keep(&bytes),
                Ok(Some(Packet::Exit(code, _))) => return Some((code, self.text())),
                Ok(Some(Packet::Failed(error))) => return Some((NO_CODE, error.to_string())),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(None) | Err(_) => return Some((NO_CODE, "the probe's helper was lost".to_owned())),
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = OUTPUT_BYTES - self.output.len();
        self.is_cut |= bytes.len() > room;
        self.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.output);
        if self.is_cut { format!("{text}...") } else { text.into_owned() }
    }
}

impl Duty<Keeper> for Checks {
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        self.probe.iter().map(|probe| PollFd::new(&probe.socket, PollFlags::IN)).collect()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.probe.as_ref().map_or(self.next, |probe| probe.deadline))
    }

    fn handle(&mut self, _: &[PollFlags], at: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        let keeper = &mut *hands.keeper;
        keeper.reap();
        if keeper.record.state.status == ContainerState::Paused {
            // It can't be entered, and a probe that was frozen with it says nothing of its health.
            if let Some(probe) = self.probe.take() {
                let _ = Packet::Signal(libc::SIGKILL).send(&probe.socket);
            }
            self.next = at + self.pause(keeper, at);
            return Ok(());
        }
        if let Some(probe) = &mut self.probe {
            let ended = match probe.read() {
                None if probe.deadline <= at => {
                    // Its helper passes that on, and ends with it.
                    let _ = Packet::Signal(libc::SIGKILL).send(&probe.socket);
                    let timeout = nanos(self.check.timeout);
                    Some((NO_CODE, format!("Health check exceeded timeout ({timeout:?})")))
                }
                ended => ended,
            };
            if let Some((exit_code, output)) = ended {
                let (start, counts) = (probe.start, probe.counts);
                self.probe = None;
                self.ended(at, keeper, HealthProbe { start, end: now(), exit_code, output }, counts);
            }
        } else if self.next <= at {
            match keeper.record.state.status {
                ContainerState::Running => self.start(at, keeper),
                _ => self.next = at + self.pause(keeper, at),
            }
        }
        Ok(())
    }
}

fn nanos(time: i64) -> Duration {
    Duration::from_nanos(u64::try_from(time).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: moby, daemon/health.go.
    #[test]
    fn failures_count_after_the_start_period_and_a_success_counts_at_once() {
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        let mut after = |exit_code, counts| {
            let probe = HealthProbe { start: 0, end: 0, exit_code, output: String::new() };
            note(&mut health, probe, counts, 2);
            (health.status, health.failing_streak, health.log.len())
        };
        assert_eq!(after(1, false), (HealthStatus::Starting, 0, 1));
        assert_eq!(after(1, true), (HealthStatus::Starting, 1, 2));
        assert_eq!(after(-1, true), (HealthStatus::Unhealthy, 2, 3));
        assert_eq!(after(1, true), (HealthStatus::Unhealthy, 3, 4));
        assert_eq!(after(0, true), (HealthStatus::Healthy, 0, 5));
        assert_eq!(after(2, true), (HealthStatus::Healthy, 1, 5));
    }
}
