//! The user's wish that the program ends, or begins anew.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::clients::ClientId;
use super::keeper::Keeper;
use super::pause::thaw;
use super::serve::{Duty, Hands};
use crate::container::record::Wanted;
use crate::container::wire::Packet;

/// Stops, kills and restarts.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    /// When the program has had enough time to end by itself.
    kill_at: Option<Instant>,
}

impl Stopping {
    fn stop(&mut self, from: ClientId, signal: i32, seconds: i64, hands: &mut Hands<'_, Keeper>) {
        hands.clients.owe(from);
        let Some(process) = hands.process else {
            hands.is_over = true;
            return;
        };
        let _ = process.kill(signal);
        hands.keeper.tell("kill", &[("signal", signal.to_string())]);
        thaw(hands);
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        let kill_at = patience.and_then(|patience| Instant::now().checked_add(patience));
        self.kill_at = [self.kill_at, kill_at].into_iter().flatten().min();
    }

    fn kill(from: ClientId, signal: i32, hands: &mut Hands<'_, Keeper>) {
        let ends = signal == libc::SIGKILL || signal == hands.keeper.record.config.stop_signal;
        if ends {
            hands.keeper.want(Wanted::Down);
        }
        match hands.process {
            None if hands.keeper.record.state.wanted == Wanted::Down => {
                hands.clients.owe(from);
                hands.is_over = true;
            }
            None => hands.clients.answer(from, &Packet::Refused("it waits to be started again".into())),
            Some(process) => {
                let result = process.kill(signal);
                if result.is_ok() {
                    hands.keeper.tell("kill", &[("signal", signal.to_string())]);
                }
                if ends {
                    thaw(hands);
                }
                match result {
                    // So that `kill` and then `rm` or `start` find what they expect.
                    Ok(()) if signal == libc::SIGKILL => hands.clients.owe(from),
                    Ok(()) => hands.clients.answer(from, &Packet::Done),
                    Err(error) => hands.clients.answer(from, &Packet::Refused(error.to_string())),
                }
            }
        }
    }
}

impl Duty<Keeper> for Stopping {
    fn deadline(&self) -> Option<Instant> {
        self.kill_at
    }

    fn handle(&mut self, _: &[PollFlags], now: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        if let (Some(process), true) = (hands.process, self.kill_at.is_some_and(|at| at <= now)) {
            self.kill_at = None;
            process.kill(libc::SIGKILL)?;
            hands.keeper.tell("kill", &[("signal", libc::SIGKILL.to_string())]);
        }
        Ok(())
    }

    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        match request {
            Packet::Stop(signal, seconds) => {
                hands.keeper.want(Wanted::Down);
                hands.keeper.again = false;
                self.stop(from, *signal, *seconds, hands);
            }
            Packet::Restart(signal, seconds) => {
                hands.keeper.want(Wanted::Up);
                hands.keeper.again = true;
                self.stop(from, *signal, *seconds, hands);
            }
            Packet::Kill(signal) => Self::kill(from, *signal, hands),
            _ => return false,
        }
        true
    }
}
