//! The columns of `ps`: their names, headers and texts.

use std::collections::HashMap;
use std::fs;

use jiff::Timestamp;

use super::process::{Process, TICKS};

/// What columns need to know beside the process.
#[derive(Debug)]
pub(super) struct Machine {
    /// Unix seconds.
    pub(super) now: i64,
    /// Unix seconds of its start.
    pub(super) boot: i64,
    /// Bytes of memory.
    pub(super) memory: u64,
    pub(super) users: HashMap<u32, String>,
    pub(super) groups: HashMap<u32, String>,
}

/// A column: the names that `-o` knows it by, its header, and its text.
pub(super) struct Column {
    names: &'static [&'static str],
    pub(super) header: &'static str,
    pub(super) text: fn(&Process, &Machine) -> String,
}

#[rustfmt::skip]
const COLUMNS: &[Column] = &[
    Column { names: &["user", "euser", "uname"], header: "USER", text: |p, m| name(&m.users, p.uid) },
    Column { names: &["uid", "euid"], header: "UID", text: |p, _| p.uid.to_string() },
    Column { names: &["group", "egroup"], header: "GROUP", text: |p, m| name(&m.groups, p.gid) },
    Column { names: &["gid", "egid"], header: "GID", text: |p, _| p.gid.to_string() },
    Column { names: &["pid", "tgid"], header: "PID", text: |p, _| p.pid.to_string() },
    Column { names: &["ppid"], header: "PPID", text: |p, _| p.parent.to_string() },
    Column { names: &["pgid", "pgrp"], header: "PGID", text: |p, _| p.group.to_string() },
    Column { names: &["sid", "sess", "session"], header: "SID", text: |p, _| p.session.to_string() },
    Column { names: &["c"], header: "C", text: |p, m| (per_mille(p, m) / 10).min(99).to_string() },
    Column { names: &["pcpu", "%cpu"], header: "%CPU", text: |p, m| decimal(per_mille(p, m)) },
    Column { names: &["pmem", "%mem"], header: "%MEM", text: |p, m| decimal((p.resident * 1000 / m.memory.max(1)).min(999)) },
    Column { names: &["vsz", "vsize"], header: "VSZ", text: |p, _| (p.size / 1024).to_string() },
    Column { names: &["rss", "rssize", "rsz"], header: "RSS", text: |p, _| (p.resident / 1024).to_string() },
    Column { names: &["tty", "tt", "tname"], header: "TTY", text: |p, _| terminal(p.terminal) },
    Column { names: &["stat"], header: "STAT", text: |p, _| state(p) },
    Column { names: &["s", "state"], header: "S", text: |p, _| p.state.to_string() },
    Column { names: &["stime"], header: "STIME", text: |p, m| start(p, m) },
    Column { names: &["start_time", "start", "bsdstart"], header: "START", text: |p, m| start(p, m) },
    Column { names: &["lstart"], header: "STARTED", text: |p, m| shown(started(p, m), "%a %b %e %H:%M:%S %Y") },
    Column { names: &["time", "cputime"], header: "TIME", text: |p, _| long(p.time / TICKS) },
    Column { names: &["bsdtime"], header: "TIME", text: |p, _| format!("{}:{:02}", p.time / TICKS / 60, p.time / TICKS % 60) },
    Column { names: &["etime"], header: "ELAPSED", text: |p, m| short(elapsed(p, m)) },
    Column { names: &["etimes"], header: "ELAPSED", text: |p, m| elapsed(p, m).to_string() },
    Column { names: &["ni", "nice"], header: "NI", text: |p, _| p.nice.to_string() },
    Column { names: &["pri"], header: "PRI", text: |p, _| (39 - p.priority).to_string() },
    Column { names: &["lwp"], header: "LWP", text: |p, _| p.thread.to_string() },
    Column { names: &["spid"], header: "SPID", text: |p, _| p.thread.to_string() },
    Column { names: &["tid"], header: "TID", text: |p, _| p.thread.to_string() },
    Column { names: &["psr"], header: "PSR", text: |p, _| p.processor.to_string() },
    Column { names: &["sz"], header: "SZ", text: |p, _| (p.size / rustix::param::page_size() as u64).to_string() },
    Column { names: &["nlwp", "thcount"], header: "NLWP", text: |p, _| p.threads.to_string() },
    Column { names: &["comm", "ucmd", "ucomm"], header: "COMMAND", text: |p, _| p.name.clone() },
    Column { names: &["cmd"], header: "CMD", text: |p, _| p.command.clone() },
    Column { names: &["args", "command"], header: "COMMAND", text: |p, _| p.command.clone() },
];

/// Finds a column by its name.
pub(super) fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.names.contains(&name))
}

impl Machine {
    /// Reads what is to be known now.
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |text: &str, key: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        };
        let boot = number(&text("/proc/stat"), "btime ").unwrap_or(0);
        let memory = number(&text("/proc/meminfo"), "MemTotal:").unwrap_or(0);
        Self {
            now: Timestamp::now().as_second(),
            boot: i64::try_from(boot).unwrap_or(0),
            memory: memory.saturating_mul(1024),
            users: names(&text("/etc/passwd")),
            groups: names(&text("/etc/group")),
        }
    }
}

/// `name:x:number:…`
fn names(text: &str) -> HashMap<u32, String> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((number.parse().ok()?, name.to_owned()))
    };
    // The first of several is the one that counts.
    text.lines().rev().filter_map(line).collect()
}

/// As `ps` cuts names: eight columns.
fn name(names: &HashMap<u32, String>, id: u32) -> String {
    match names.get(&id) {
        Some(name) if name.chars().count() > 8 => name.chars().take(7).chain(['+']).collect(),
        Some(name) => name.clone(),
        None => id.to_string(),
    }
}

fn started(process: &Process, machine: &Machine) -> i64 {
    machine.boot + i64::try_from(process.started / TICKS).unwrap_or(0)
}

fn elapsed(process: &Process, machine: &Machine) -> u64 {
    u64::try_from(machine.now - started(process, machine)).unwrap_or(0)
}

fn per_mille(process: &Process, machine: &Machine) -> u64 {
    match elapsed(process, machine) {
        0 => 0,
        seconds => process.time * 1000 / TICKS / seconds,
    }
}

fn decimal(per_mille: u64) -> String {
    format!("{}.{}", per_mille / 10, per_mille % 10)
}

fn terminal(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    match (major, minor) {
        (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn state(process: &Process) -> String {
    let flags = [
        ('<', process.nice < 0),
        ('N', process.nice > 0),
        ('s', process.session == process.pid),
        ('l', process.threads > 1),
        ('+', process.foreground == process.group && process.foreground > 0),
    ];
    std::iter::once(process.state).chain(flags.iter().filter(|flag| flag.1).map(|flag| flag.0)).collect()
}

fn shown(seconds: i64, format: &str) -> String {
    Timestamp::from_second(seconds).map(|time| time.strftime(format).to_string()).unwrap_or_default()
}

/// The time of a start today, the day of one this year, or the year.
fn start(process: &Process, machine: &Machine) -> String {
    let start = started(process, machine);
    let same = |format: &str| shown(start, format) == shown(machine.now, format);
    let format = if !same("%Y") {
        "%Y"
    } else if !same("%j") {
        "%b%d"
    } else {
        "%H:%M"
    };
    shown(start, format)
}

/// `[DD-]hh:mm:ss`
fn long(seconds: u64) -> String {
    let days = if seconds >= 86_400 { format!("{}-", seconds / 86_400) } else { String::new() };
    format!("{days}{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `[[DD-]hh:]mm:ss`
fn short(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => long(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let process = Process {
            pid: 70,
            name: "sh".into(),
            command: "sh -c x".into(),
            state: 'S',
            session: 70,
            group: 70,
            foreground: 70,
            terminal: 136 << 8 | 2,
            time: 90_061 * TICKS,
            nice: 5,
            priority: 20,
            threads: 2,
            started: 1000 * TICKS,
            size: 4096,
            resident: 8192,
            uid: 100,
            ..Process::default()
        };
        let machine = Machine {
            now: 1_700_000_000,
            boot: 1_700_000_000 - 1000 - 200_000,
            memory: 8192 * 8,
            users: names("long_name_it_is:x:100:1::/:\nother:x:100:\n"),
            groups: HashMap::new(),
        };
        (column(name).unwrap().text)(&process, &machine)
    }

    // Expected: the rules of procps's ps(1).
    #[test]
    fn columns_are_those_of_ps() {
        for (name, expected) in [
            ("user", "long_na+"),
            ("uid", "100"),
            ("group", "0"),
            ("tty", "pts/2"),
            ("stat", "SNsl+"),
            ("time", "1-01:01:01"),
            ("bsdtime", "1501:01"),
            ("c", "45"),
            ("pcpu", "45.0"),
            ("pmem", "12.5"),
            ("stime", "Nov12"),
            ("etime", "2-07:33:20"),
            ("vsz", "4"),
            ("pri", "19"),
            ("args", "sh -c x"),
        ] {
            assert_eq!(text(name), expected, "{name}");
        }
        assert!(column("colour").is_none());
        assert_eq!(
            (terminal(0), terminal(4 << 8 | 65), short(65)),
            ("?".into(), "ttyS1".into(), "01:05".into())
        );
    }
}
