//! What the processes of a cgroup use up.

use std::fs;

use super::Cgroup;

/// Totals since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory, without the page cache that can be dropped at once.
    pub memory: u64,
    /// The limit of it, if there is one.
    pub memory_limit: Option<u64>,
    /// Tasks.
    pub tasks: u64,
    /// Bytes read from and written to block devices, where the controller counts them.
    pub block: Option<(u64, u64)>,
}

impl Cgroup {
    /// Reads them; what no controller counts is 0.
    pub fn usage(&self) -> Usage {
        let text = |name: &str| self.file(name).and_then(|file| fs::read_to_string(file).ok());
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let field = |name: &str, key: &str| field(&text(name)?, key);
        let micros = field("cpu.stat", "usage_usec").map(|micros| micros.saturating_mul(1000));
        let memory = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
        let cache =
            field("memory.stat", "total_inactive_file").or_else(|| field("memory.stat", "inactive_file"));
        let (memory, cache) = (memory.unwrap_or(0), cache.unwrap_or(0));
        let lines = |name: &str| Some(text(name)?.lines().count() as u64);
        let tasks = number("pids.current").or_else(|| lines("cgroup.threads")).or_else(|| lines("tasks"));
        Usage {
            cpu: micros.or_else(|| number("cpuacct.usage")).unwrap_or(0),
            memory: if cache < memory { memory - cache } else { memory },
            memory_limit: number("memory.max").or_else(|| number("memory.limit_in_bytes")),
            tasks: tasks.unwrap_or(0),
            block: text("io.stat")
                .map(|text| sum_v2(&text))
                .or_else(|| text("blkio.throttle.io_service_bytes_recursive").map(|text| sum_v1(&text))),
        }
    }
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `8:0 rbytes=1 wbytes=2 rios=…`
fn sum_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`
fn sum_v1(text: &str) -> (u64, u64) {
    let sum = |wanted: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next()? == wanted).then(|| words.next()?.parse::<u64>().ok()).flatten()
        });
        lines.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        put("memory.current", "5000\n");
        put("memory.max", "max\n");
        put("memory.stat", "anon 100\ninactive_file 1000\n");
        put("cgroup.threads", "1\n2\n3\n");
        put("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2 rios=1\n");
        let cgroup = Cgroup::open(&[folder.path().to_owned()]);
        let v2 = Usage { cpu: 1_500_000, memory: 4000, memory_limit: None, tasks: 3, block: Some((11, 22)) };
        assert_eq!(cgroup.usage(), v2);
        let old = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(old.path().join(name), text).unwrap();
        put("memory.usage_in_bytes", "5000\n");
        put("memory.limit_in_bytes", "6000\n");
        put("memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
        put("pids.current", "7\n");
        put("cpuacct.usage", "99\n");
        put("blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Write 6\n8:0 Total 11\nTotal 11\n");
        let cgroup = Cgroup::open(&[old.path().to_owned()]);
        let v1 = Usage { cpu: 99, memory: 4500, memory_limit: Some(6000), tasks: 7, block: Some((5, 6)) };
        assert_eq!(cgroup.usage(), v1);
    }
}
