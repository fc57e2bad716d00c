//! What containers use up, read from the kernel when it is asked for: nothing runs for it beside.

use std::fs;

use super::record::Record;
use super::{Containers, now};
use crate::api::{ContainerStats, NetworkMode};
use crate::runtime::Cgroup;

impl Containers {
    /// Reads what a container has used up since its start; one that doesn't run uses nothing.
    pub fn stats(&self, record: &Record) -> ContainerStats {
        let mut stats = ContainerStats {
            id: record.id.clone(),
            name: record.name.clone(),
            time: now(),
            ..ContainerStats::default()
        };
        let Some(process) = &record.state.process else { return stats };
        let cgroup = Cgroup::open(&process.cgroup);
        let usage = cgroup.usage();
        let machine = memory_of_machine();
        (stats.cpu, stats.memory, stats.pids) = (usage.cpu, usage.memory, usage.tasks);
        stats.memory_limit = usage.memory_limit.map_or(machine, |limit| limit.min(machine));
        if record.config.network != NetworkMode::Host {
            let table = fs::read_to_string(format!("/proc/{}/net/dev", process.pid));
            stats.network = network(&table.unwrap_or_default());
        }
        stats.block = usage.block.unwrap_or_else(|| block(&cgroup.pids()));
        stats
    }
}

fn memory_of_machine() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Sums received and sent bytes up, without the loopback's.
fn network(table: &str) -> (u64, u64) {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<&str> = counters.split_whitespace().collect();
        let count = |at: usize| counters.get(at)?.parse::<u64>().ok();
        (name.trim() != "lo").then_some((count(0)?, count(8)?))
    };
    table.lines().filter_map(line).fold((0, 0), |sum, line| (sum.0 + line.0, sum.1 + line.1))
}

/// Where no controller counts: a process's counters have those of its children that have ended.
fn block(pids: &[i32]) -> (u64, u64) {
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let field =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        Some((field("read_bytes:")?, field("write_bytes:")?))
    };
    pids.iter().filter_map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_no_network() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0: 700 9 0 0 0 0 0 0 800 9 0 0 0 0 0 0
  eth1:7 9 0 0 0 0 0 0 8 9 0 0 0 0 0 0
";
        assert_eq!(network(table), (707, 808));
        assert!(memory_of_machine() > 0);
    }
}
