//! The system call filter: a table compiled to a small decision tree.
//!
//! For each architecture the numbers fall into ranges of equal rule. A range joins adjacent numbers of the table
//! only, never over a hole, so that a system call of a later kernel is never let through by accident: it gets
//! ENOSYS and the C library falls back. The tree needs about eight comparisons for any number; the kernel walks
//! it once for each number at the load, so a short path is also a fast start.

mod document;
mod profile;

use std::borrow::Cow;
use std::sync::OnceLock;

pub use self::document::{default_document, profile_document};
pub use self::profile::{BadProfile, compile_profile};
use super::spec::{Capabilities, Filter, Rights};
use crate::sys::seccomp::Instruction;

/// The table.
const TABLE: &str = include_str!("syscalls.txt");

/// What [`compile`] makes of it for x86_64 and the default capabilities, as the kernel takes it: reading the table takes as
/// long as a tenth of a container's start. Written by `cargo test --lib record_the_filter -- --ignored`.
const COMPILED: &[u8] = include_bytes!("default.x86_64.bpf");

/// What happens to one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Allow,
    Deny,
    NoSys,
    Clone,
    Socket,
    Personality,
}

/// An architecture of the table: its audit number and its column.
#[derive(Debug, Clone, Copy)]
struct Arch {
    audit: u32,
    column: usize,
}

const X86_64: Arch = Arch { audit: 0xc000_003e, column: 1 };
const I386: Arch = Arch { audit: 0x4000_0003, column: 2 };
const AARCH64: Arch = Arch { audit: 0xc000_00b7, column: 3 };

/// Bit 30 marks the x32 numbers of x86_64; they are refused as unknown.
#[cfg(test)]
const X32_BIT: u32 = 0x4000_0000;

// Classic BPF: load a word of the data, compare, jump, return.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_KILL: u32 = 0x8000_0000;
const RET_EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const RET_ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// All `CLONE_NEW*` flags that `clone` takes.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// AF_ALG reaches the kernel's crypto, AF_VSOCK the hypervisor.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
/// PER_LINUX, PER_LINUX32, both with UNAME26, and the question for the current one.
const PERSONALITIES: [u32; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// Calls that docker's profile lets through with a capability, and refuses without it.
const GATES: [(&str, &[&str]); 14] = [
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("SYS_RAWIO", &["iopl", "ioperm"]),
    ("SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYSLOG", &["syslog"]),
    ("BPF", &["bpf"]),
    ("PERFMON", &["perf_event_open"]),
];

/// Returns the filter that goes with `rights`.
pub(super) fn program(rights: &Rights) -> Cow<'_, [Instruction]> {
    match &rights.filter {
        Filter::Program(program) => Cow::Borrowed(program),
        Filter::Off => Cow::Borrowed(&[]),
        Filter::Default if rights.capabilities == Capabilities::default() => Cow::Borrowed(default_program()),
        Filter::Default => Cow::Owned(compile(arches(), rights.capabilities)),
    }
}

/// Returns the filter of this machine's architecture for the default capabilities.
fn default_program() -> &'static [Instruction] {
    static PROGRAM: OnceLock<Vec<Instruction>> = OnceLock::new();
    PROGRAM.get_or_init(|| match cfg!(target_arch = "x86_64") {
        true => COMPILED.as_chunks().0.iter().map(|bytes| Instruction::of(*bytes)).collect(),
        false => compile(arches(), Capabilities::default()),
    })
}

fn arches() -> &'static [Arch] {
    if cfg!(target_arch = "aarch64") { &[AARCH64] } else { &[X86_64, I386] }
}

/// Numbers from `first` up to the next range share a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range<R> {
    first: u32,
    rule: R,
}

/// What becomes of a call of the table when the process has `capabilities`.
fn gated(name: &str, rule: Rule, capabilities: Capabilities) -> Rule {
    let mut gates = GATES.iter().filter(|(_, names)| names.contains(&name)).peekable();
    if gates.peek().is_none() {
        return rule;
    }
    match gates.any(|(capability, _)| capabilities.has(capability)) {
        true => Rule::Allow,
        false if rule == Rule::Allow => Rule::Deny,
        false => rule,
    }
}

/// Reads a line of the table.
fn row(line: &str) -> Option<(&str, Rule)> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next().filter(|name| !name.starts_with('#'))?;
    let rule = match fields.nth(3)? {
        "allow" => Rule::Allow,
        "nosys" => Rule::NoSys,
        "clone" => Rule::Clone,
        "socket" => Rule::Socket,
        "personality" => Rule::Personality,
        _ => Rule::Deny,
    };
    Some((name, rule))
}

fn rules_of(arch: Arch, capabilities: Capabilities) -> Vec<(u32, Rule)> {
    // The table is theirs.
    let is_default = capabilities == Capabilities::default();
    let of_arch = |line: &'static str| -> Option<(u32, Rule)> {
        let (name, rule) = row(line)?;
        let rule = if is_default { rule } else { gated(name, rule, capabilities) };
        Some((line.split_ascii_whitespace().nth(arch.column)?.parse().ok()?, rule))
    };
    let mut rules: Vec<_> = TABLE.lines().filter_map(of_arch).collect();
    rules.sort_unstable_by_key(|(number, _)| *number);
    rules
}

/// Covers all numbers: known ones by their rule, holes and the rest by ENOSYS.
fn ranges_of(arch: Arch, capabilities: Capabilities) -> Vec<Range<Rule>> {
    ranges(rules_of(arch, capabilities), &Rule::NoSys, Rule::NoSys)
}

/// Joins adjacent numbers of equal rule; `hole` is for those between, `beyond` for those after the last.
fn ranges<R: PartialEq + Clone>(rules: Vec<(u32, R)>, hole: &R, beyond: R) -> Vec<Range<R>> {
    let mut ranges: Vec<Range<R>> = Vec::new();
    let mut push = |first: u32, rule: R| {
        if ranges.last().is_none_or(|last| last.rule != rule) {
            ranges.push(Range { first, rule });
        }
    };
    let mut next = 0;
    for (number, rule) in rules {
        if number > next {
            push(next, hole.clone());
        }
        push(number, rule);
        next = number + 1;
    }
    push(next, beyond);
    ranges
}

fn step(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn compile(arches: &[Arch], capabilities: Capabilities) -> Vec<Instruction> {
    let bodies = arches.iter().map(|arch| (*arch, tree(&ranges_of(*arch, capabilities), &leaf)));
    join(bodies.collect())
}

/// Puts the trees of all architectures together; another architecture is killed.
fn join(bodies: Vec<(Arch, Vec<Instruction>)>) -> Vec<Instruction> {
    let mut program = vec![step(LOAD, ARCH, 0, 0)];
    for (arch, tree) in bodies {
        program.push(step(IF_EQUAL, arch.audit, 1, 0));
        program.push(step(JUMP, tree.len() as u32 + 1, 0, 0));
        program.push(step(LOAD, NUMBER, 0, 0));
        program.extend(tree);
    }
    program.push(step(RETURN, RET_KILL, 0, 0));
    program
}

/// Halves the ranges until one is left. The lower half stands first.
fn tree<R>(ranges: &[Range<R>], leaf: &impl Fn(&R) -> Vec<Instruction>) -> Vec<Instruction> {
    if let [range] = ranges {
        return leaf(&range.rule);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (tree(low, leaf), tree(high, leaf));
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![step(IF_AT_LEAST, high[0].first, distance, 0)],
        // Comparisons jump 255 instructions at most.
        Err(_) => vec![step(IF_AT_LEAST, high[0].first, 0, 1), step(JUMP, below.len() as u32, 0, 0)],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn leaf(rule: &Rule) -> Vec<Instruction> {
    let answer = |value| step(RETURN, value, 0, 0);
    let argument = step(LOAD, FIRST_ARGUMENT, 0, 0);
    match rule {
        Rule::Allow => vec![answer(RET_ALLOW)],
        Rule::Deny => vec![answer(RET_EPERM)],
        Rule::NoSys => vec![answer(RET_ENOSYS)],
        Rule::Clone => {
            vec![argument, step(IF_ANY_BIT, NAMESPACE_FLAGS, 0, 1), answer(RET_EPERM), answer(RET_ALLOW)]
        }
        Rule::Socket => one_of(&REFUSED_FAMILIES, RET_EPERM, RET_ALLOW),
        Rule::Personality => one_of(&PERSONALITIES, RET_ALLOW, RET_EPERM),
    }
}

/// Answers `found` when the first argument is one of `values`.
fn one_of(values: &[u32], found: u32, otherwise: u32) -> Vec<Instruction> {
    let mut code = vec![step(LOAD, FIRST_ARGUMENT, 0, 0)];
    for (index, value) in values.iter().enumerate() {
        code.push(step(IF_EQUAL, *value, (values.len() - index) as u8, 0));
    }
    code.extend([step(RETURN, otherwise, 0, 0), step(RETURN, found, 0, 0)]);
    code
}

#[cfg(test)]
mod tests;
