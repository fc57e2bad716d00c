//! Pulls and pushes outside a build: docker's status lines, and on a terminal a line per layer.

use super::amount;
use crate::api::Event;
use crate::cli::text::{ellipsis, harmless};

/// What moves.
#[derive(Debug)]
pub(super) struct Transfers {
    terminal: bool,
    items: Vec<(String, u64, u64)>,
}

impl Transfers {
    /// Shows moving layers only on a terminal.
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, items: Vec::new() }
    }

    /// Takes `event`; returns lines to write for good.
    pub(super) fn take(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Status(text) | Event::Warning(text) => {
                text.lines().map(|line| harmless(line.as_bytes())).collect()
            }
            Event::Transfer { item, done, total, .. } => {
                let known = self.items.iter().position(|known| known.0 == item);
                match known {
                    Some(at) => (self.items[at].1, self.items[at].2) = (done, total),
                    None => self.items.push((item.clone(), done, total)),
                }
                Vec::new()
            }
            Event::Planned { .. }
            | Event::Started(_)
            | Event::Ran { .. }
            | Event::Output { .. }
            | Event::Finished(..) => Vec::new(),
        }
    }

    /// The layers that are still moving.
    pub(super) fn block(&self, rows: usize, columns: usize) -> Vec<String> {
        if !self.terminal {
            return Vec::new();
        }
        let moving = self.items.iter().filter(|(_, done, total)| *total == 0 || done < total);
        moving
            .take(rows)
            .map(|(item, done, total)| {
                let text = format!("{}: {}", harmless(item.as_bytes()), amount(*done, *total));
                ellipsis(&text, columns.saturating_sub(1))
            })
            .collect()
    }
}
