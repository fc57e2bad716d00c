//! `kiln stats`

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::api::{ContainerStats, FailureKind};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, terminal, text, units};

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// The same when there are only two: enough for a share of the processors.
const SHORT_PERIOD: Duration = Duration::from_millis(250);
/// Clears the terminal and goes to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "stats",
    "Display a live stream of container(s) resource usage statistics",
    "[OPTIONS] [CONTAINER...]",
    Stats,
    run
);

/// `kiln stats`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Stats {
    /// Show also containers that don't run
    #[arg(long, short)]
    all: bool,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show them once
    #[arg(long)]
    no_stream: bool,
    /// Don't shorten
    #[arg(long)]
    no_trunc: bool,
    /// The containers; without any all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: Columns = &[
    ("ID", "CONTAINER ID", true),
    ("Name", "NAME", true),
    ("CPUPerc", "CPU %", true),
    ("MemUsage", "MEM USAGE / LIMIT", true),
    ("MemPerc", "MEM %", true),
    ("NetIO", "NET I/O", true),
    ("BlockIO", "BLOCK I/O", true),
    ("PIDs", "PIDS", true),
    ("Container", "CONTAINER", false),
];

/// Shows what containers use, again and again or once.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Stats = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    let repaints = !flags.no_stream && terminal::is_terminal(io::stdout());
    let mut before = engine.stats(&flags.containers, flags.all)?;
    if repaints {
        print(&format!("{CLEAR}{}", shown(&flags, &before, &[])?))?;
    }
    loop {
        std::thread::sleep(if flags.no_stream { SHORT_PERIOD } else { PERIOD });
        let now = match engine.stats(&flags.containers, flags.all) {
            // The last of them is gone.
            Err(failure) if failure.kind == FailureKind::NotFound && !flags.no_stream => {
                return Ok(exit::SUCCESS);
            }
            now => now?,
        };
        let clear = if repaints { CLEAR } else { "" };
        print(&format!("{clear}{}", shown(&flags, &now, &before)?))?;
        if flags.no_stream {
            return Ok(exit::SUCCESS);
        }
        before = now;
    }
}

fn shown(flags: &Stats, now: &[ContainerStats], before: &[ContainerStats]) -> Result<String, Error> {
    let before: HashMap<&str, &ContainerStats> = before.iter().map(|one| (one.id.as_str(), one)).collect();
    let typed = |at: usize, one: &ContainerStats| flags.containers.get(at).unwrap_or(&one.name).clone();
    let rows = now.iter().enumerate().map(|(at, one)| {
        let mut row = row(one, before.get(one.id.as_str()).copied(), flags.no_trunc);
        row.push(("Container", typed(at, one).into()));
        row
    });
    format::rows_text(COLUMNS, rows.collect(), flags.format.as_deref())
}

fn row(now: &ContainerStats, before: Option<&ContainerStats>, whole: bool) -> Row {
    let id = if whole { &now.id } else { text::short_id(&now.id) };
    let pair = |(one, other): (u64, u64)| format!("{} / {}", units::size(one, 3), units::size(other, 3));
    let memory = format!("{} / {}", units::binary_size(now.memory), units::binary_size(now.memory_limit));
    vec![
        ("ID", id.into()),
        ("Name", now.name.clone().into()),
        ("CPUPerc", percent(before.map_or(0.0, |before| cpu(before, now))).into()),
        ("MemUsage", memory.into()),
        ("MemPerc", percent(share(now.memory, now.memory_limit)).into()),
        ("NetIO", pair(now.network).into()),
        ("BlockIO", pair(now.block).into()),
        ("PIDs", now.pids.to_string().into()),
    ]
}

/// The share of one processor since the reading before; a restart begins at zero again.
fn cpu(before: &ContainerStats, now: &ContainerStats) -> f64 {
    let time = u64::try_from(now.time.saturating_sub(before.time)).unwrap_or(0);
    share(now.cpu.saturating_sub(before.cpu), time)
}

#[expect(clippy::cast_precision_loss, reason = "only two digits are shown")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_docker() {
        let before = ContainerStats {
            id: "0123456789ab".repeat(6)[..64].to_owned(),
            name: "box".into(),
            cpu: 1_000_000_000,
            time: 5_000_000_000,
            ..ContainerStats::default()
        };
        let now = ContainerStats {
            cpu: 2_500_000_000,
            time: 6_000_000_000,
            memory: 1_310_720,
            memory_limit: 64 << 20,
            network: (1_250, 0),
            block: (0, 4_100_000),
            pids: 3,
            ..before.clone()
        };
        let flags = Stats { containers: vec!["bo".into()], ..Stats::default() };
        let text = shown(&flags, std::slice::from_ref(&now), &[before]).ok().unwrap();
        let expected = "\
CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       BLOCK I/O    PIDS
0123456789ab   box       150.00%   1.25MiB / 64MiB     1.95%     1.25kB / 0B   0B / 4.1MB   3
";
        assert_eq!(text, expected);
        let flags = Stats { format: Some("{{.Container}} {{.CPUPerc}}".into()), ..flags };
        assert_eq!(shown(&flags, &[now], &[]).ok().unwrap(), "bo 0.00%\n");
    }
}
