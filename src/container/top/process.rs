//! A process as `/proc` tells of it.

use std::fs;

/// The clock of `/proc/PID/stat`, on every machine that Linux is built for today.
pub(super) const TICKS: u64 = 100;

/// What `ps` shows of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The thread whose line this is; the first one has the process's number.
    pub(super) thread: i32,
    pub(super) name: String,
    /// The program and its arguments; a process without has its name in brackets.
    pub(super) command: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// The terminal's device number.
    pub(super) terminal: u64,
    /// The group in the foreground of its terminal.
    pub(super) foreground: i32,
    /// Ticks of processor time.
    pub(super) time: u64,
    pub(super) nice: i64,
    pub(super) priority: i64,
    pub(super) threads: u64,
    /// The processor it ran on last.
    pub(super) processor: u64,
    /// Ticks from the machine's start to its own.
    pub(super) started: u64,
    /// Bytes of address space.
    pub(super) size: u64,
    /// Bytes in memory.
    pub(super) resident: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Process {
    /// Reads it; `None` when it has ended.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let text = |name: &str| file(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut process = parse_stat(&text("stat")?)?;
        let status = text("status")?;
        let ids = |key: &str| {
            // Real, effective, saved, of files.
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().nth(1)?.parse::<u32>().ok()
        };
        (process.uid, process.gid) = (ids("Uid:")?, ids("Gid:")?);
        process.command = command(&file("cmdline")?, &process);
        Some(process)
    }

    /// A line for each of its threads; what is theirs alone differs.
    pub(super) fn threads(self) -> Vec<Self> {
        let folder = format!("/proc/{}/task", self.pid);
        let thread = |number: i32| {
            let stat = fs::read(format!("{folder}/{number}/stat")).ok()?;
            let own = parse_stat(&String::from_utf8_lossy(&stat))?;
            let (uid, gid, command) = (self.uid, self.gid, self.command.clone());
            Some(Self { pid: self.pid, thread: number, uid, gid, command, ..own })
        };
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut numbers: Vec<i32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(thread).collect()
    }
}

fn command(line: &[u8], process: &Process) -> String {
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let command = words.join(" ").trim_end().replace(|c: char| c.is_control(), "?");
    match (command.is_empty(), process.state) {
        (true, 'Z') => format!("[{}] <defunct>", process.name),
        (true, _) => format!("[{}]", process.name),
        (false, _) => command,
    }
}

/// The name may hold blanks and parentheses; fields count from the last one.
fn parse_stat(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The state is field 3.
    let number = |at: usize| fields.get(at - 3)?.parse::<i64>().ok();
    let small = |at: usize| i32::try_from(number(at)?).ok();
    let count = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    let pid = pid.parse().ok()?;
    Some(Process {
        pid,
        thread: pid,
        name: name.replace(|c: char| c.is_control(), "?"),
        state: fields.first()?.chars().next()?,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        terminal: u64::try_from(number(7)?).unwrap_or(0),
        foreground: small(8)?,
        time: count(14)? + count(15)?,
        priority: number(18)?,
        nice: number(19)?,
        threads: count(20)?,
        started: count(22)?,
        // An old kernel's line is shorter.
        processor: count(39).unwrap_or(0),
        size: count(23)?,
        resident: count(24)?.saturating_mul(rustix::param::page_size() as u64),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_files() {
        let stat = "7 (a) b (c)) S 1 7 6 34816 7 4194560 1 0 0 0 150 50 0 0 20 0 3 0 9000 8192 5 18446744073709551615";
        let process = parse_stat(stat).unwrap();
        assert_eq!(
            (process.pid, process.name.as_str(), process.state, process.parent),
            (7, "a) b (c)", 'S', 1)
        );
        assert_eq!((process.terminal, process.foreground, process.time), (34816, 7, 200));
        assert_eq!((process.nice, process.threads, process.started, process.size), (0, 3, 9000, 8192));
        let own = Process::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(own.uid, rustix::process::geteuid().as_raw());
        assert!(!own.command.is_empty() && own.resident > 0);
        assert_eq!(Process::read(i32::MAX), None);
        let (pid, ours) = (own.pid, own.threads());
        // The test runner has a thread of its own for this test.
        assert!(ours.len() > 1 && ours[0].thread == pid, "{ours:?}");
        assert!(ours.iter().all(|thread| thread.pid == pid && !thread.command.is_empty()));
    }

    #[test]
    fn a_process_without_a_command_line_has_its_name_in_brackets() {
        let process = Process { name: "sh".into(), state: 'Z', ..Process::default() };
        assert_eq!(command(b"", &process), "[sh] <defunct>");
        assert_eq!(command(b"sleep\x00600\x00", &process), "sleep 600");
        assert_eq!(command(b"a\nb\0", &process), "a?b");
    }
}
