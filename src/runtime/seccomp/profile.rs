//! A user's profile, in docker's JSON, compiled for this machine.
//!
//! Names that this table doesn't know are left out, as libseccomp does. A number beyond the table gets ENOSYS where the
//! profile's default is an error, so that a C library newer than the profile falls back.

use serde::{Deserialize, Serialize};

use super::{
    Arch, FIRST_ARGUMENT, IF_EQUAL, Instruction, LOAD, RET_ALLOW, RET_ENOSYS, RET_KILL, RETURN, TABLE,
    arches, join, ranges, step, tree,
};
use crate::runtime::spec::Capabilities;

/// More operations of classic BPF.
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = super::IF_AT_LEAST;
const AND: u16 = 0x54;

const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
/// The kernel takes no longer program.
const MOST_INSTRUCTIONS: usize = 4096;
/// The jump of a condition that doesn't hold, until its rule's length is known.
const TO_THE_NEXT_RULE: u8 = 255;

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadProfile {
    /// It isn't the JSON that is expected.
    #[error("it is no seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// It has a word that stands for nothing known here.
    #[error("{what} `{word}` is not known")]
    Word {
        /// What the word should name.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// It can't be expressed.
    #[error("{0}")]
    Other(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub(super) default_action: String,
    pub(super) default_errno_ret: Option<u32>,
    #[serde(default)]
    pub(super) syscalls: Vec<Syscalls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Syscalls {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) names: Vec<String>,
    pub(super) action: String,
    pub(super) errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) args: Vec<Argument>,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) includes: Condition,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) excludes: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    pub(super) caps: Vec<String>,
    pub(super) arches: Vec<String>,
    pub(super) min_kernel: Option<String>,
}

/// Go writes an empty list as `null`.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// One rule of a call: with these arguments, this answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Argument>,
    answer: u32,
}

/// Compiles a profile for a process with `capabilities` on this machine, whose kernel is `release` (`6.1.0-3-amd64`).
pub fn compile_profile(
    json: &str,
    capabilities: Capabilities,
    release: &str,
) -> Result<Vec<Instruction>, BadProfile> {
    let profile: Profile = serde_json::from_str(json)?;
    let default = answer(&profile.default_action, profile.default_errno_ret)?;
    let beyond = if default & 0xffff_0000 == RET_ERRNO { RET_ENOSYS } else { default };
    let plain = |answer| vec![Rule { conditions: Vec::new(), answer }];
    let mut bodies = Vec::new();
    for arch in arches() {
        let mut rules = Vec::new();
        for (name, number) in numbers(*arch) {
            let mut of_call = rules_of_call(&profile, name, *arch, capabilities, release)?;
            of_call.extend(plain(default));
            rules.push((number, of_call));
        }
        rules.sort_unstable_by_key(|(number, _)| *number);
        let ranges = ranges(rules, &plain(default), plain(beyond));
        bodies.push((*arch, tree(&ranges, &|rules: &Vec<Rule>| rules.iter().flat_map(code).collect())));
    }
    let program = join(bodies);
    match program.len() {
        length if length > MOST_INSTRUCTIONS => {
            Err(BadProfile::Other(format!("it has {length} instructions, more than the kernel takes")))
        }
        _ => Ok(program),
    }
}

/// The calls of the table that `arch` has.
fn numbers(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        Some((name, fields.nth(arch.column - 1)?.parse().ok()?))
    })
}

fn rules_of_call(
    profile: &Profile,
    name: &str,
    arch: Arch,
    capabilities: Capabilities,
    release: &str,
) -> Result<Vec<Rule>, BadProfile> {
    let mut rules = Vec::new();
    for syscalls in &profile.syscalls {
        if syscalls.name != name && !syscalls.names.iter().any(|known| known == name) {
            continue;
        }
        let (includes, excludes) = (&syscalls.includes, &syscalls.excludes);
        let excluded = excludes.caps.iter().any(|name| capabilities.has(name))
            || excludes.arches.iter().any(|name| is_arch(name, arch))
            || excludes.min_kernel.as_deref().is_some_and(|least| is_at_least(release, least));
        let included = includes.caps.iter().all(|name| capabilities.has(name))
            && (includes.arches.is_empty() || includes.arches.iter().any(|name| is_arch(name, arch)))
            && includes.min_kernel.as_deref().is_none_or(|least| is_at_least(release, least));
        if excluded || !included {
            continue;
        }
        let answer = answer(&syscalls.action, syscalls.errno_ret.or(profile.default_errno_ret))?;
        for argument in &syscalls.args {
            condition(argument)?;
        }
        // Several conditions on one argument are alternatives, as runc reads them.
        let index_stands_twice = syscalls
            .args
            .iter()
            .enumerate()
            .any(|(place, one)| syscalls.args[..place].iter().any(|other| other.index == one.index));
        match index_stands_twice {
            true => rules.extend(
                syscalls.args.iter().map(|argument| Rule { conditions: vec![argument.clone()], answer }),
            ),
            false => rules.push(Rule { conditions: syscalls.args.clone(), answer }),
        }
    }
    // What holds for some arguments goes before what holds for all.
    rules.sort_by_key(|rule| rule.conditions.is_empty());
    Ok(rules)
}

/// Both Go's names and libseccomp's.
pub(super) fn is_arch(name: &str, arch: Arch) -> bool {
    let names: &[&str] = match arch.column {
        1 => &["amd64", "x86_64", "SCMP_ARCH_X86_64"],
        2 => &["386", "x86", "SCMP_ARCH_X86", "amd64"],
        _ => &["arm64", "aarch64", "SCMP_ARCH_AARCH64"],
    };
    names.contains(&name)
}

pub(super) fn is_at_least(release: &str, least: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts =
            text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    numbers(release) >= numbers(least)
}

fn answer(action: &str, errno: Option<u32>) -> Result<u32, BadProfile> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    Ok(match action {
        "SCMP_ACT_ALLOW" => RET_ALLOW,
        "SCMP_ACT_ERRNO" => RET_ERRNO | errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => RET_KILL,
        "SCMP_ACT_TRAP" => RET_TRAP,
        "SCMP_ACT_TRACE" => RET_TRACE | errno,
        "SCMP_ACT_LOG" => RET_LOG,
        word => return Err(BadProfile::Word { what: "the action", word: word.to_owned() }),
    })
}

/// One rule: its conditions, each of which leads on to the next rule when it doesn't hold, and its answer.
fn code(rule: &Rule) -> Vec<Instruction> {
    let mut code: Vec<Instruction> =
        rule.conditions.iter().flat_map(|argument| condition(argument).unwrap_or_default()).collect();
    code.push(step(RETURN, rule.answer, 0, 0));
    let length = code.len();
    for (place, instruction) in code.iter_mut().enumerate() {
        // Six conditions of at most seven instructions: a jump is never as long as the mark.
        let distance = (length - place - 1) as u8;
        for jump in [&mut instruction.jump_true, &mut instruction.jump_false] {
            if *jump == TO_THE_NEXT_RULE {
                *jump = distance;
            }
        }
    }
    code
}

/// A comparison of 64 bits by halves, the lower one first in memory.
fn condition(argument: &Argument) -> Result<Vec<Instruction>, BadProfile> {
    const NO: u8 = TO_THE_NEXT_RULE;
    if argument.index > 5 {
        return Err(BadProfile::Other("a system call has six arguments, numbered from 0".to_owned()));
    }
    let place = FIRST_ARGUMENT + 8 * argument.index;
    let (low, high) = (step(LOAD, place, 0, 0), step(LOAD, place + 4, 0, 0));
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (value_low, value_high) = halves(argument.value);
    Ok(match argument.op.as_str() {
        "SCMP_CMP_EQ" => {
            vec![high, step(IF_EQUAL, value_high, 0, NO), low, step(IF_EQUAL, value_low, 0, NO)]
        }
        "SCMP_CMP_NE" => vec![high, step(IF_EQUAL, value_high, 0, 2), low, step(IF_EQUAL, value_low, NO, 0)],
        "SCMP_CMP_MASKED_EQ" => {
            let (two_low, two_high) = halves(argument.value_two);
            let masked = |load, mask, value| [load, step(AND, mask, 0, 0), step(IF_EQUAL, value, 0, NO)];
            [masked(high, value_high, two_high), masked(low, value_low, two_low)].concat()
        }
        op => {
            // Greater in the upper half decides, then less; equal halves leave it to the lower ones.
            let (if_greater, if_less, last) = match op {
                "SCMP_CMP_GT" => (3, NO, step(IF_GREATER, value_low, 0, NO)),
                "SCMP_CMP_GE" => (3, NO, step(IF_AT_LEAST, value_low, 0, NO)),
                "SCMP_CMP_LT" => (NO, 2, step(IF_AT_LEAST, value_low, NO, 0)),
                "SCMP_CMP_LE" => (NO, 2, step(IF_GREATER, value_low, NO, 0)),
                word => return Err(BadProfile::Word { what: "the comparison", word: word.to_owned() }),
            };
            let upper = [step(IF_GREATER, value_high, if_greater, 0), step(IF_EQUAL, value_high, 0, if_less)];
            [vec![high], upper.to_vec(), vec![low, last]].concat()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ARCH, I386, JUMP, NUMBER, X86_64};
    use super::*;

    /// Runs a program on one call of x86_64.
    fn run(program: &[Instruction], audit: u32, number: u32, arguments: &[u64]) -> u32 {
        let (mut at, mut loaded) = (0, 0u32);
        loop {
            let Instruction { code, jump_true, jump_false, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    loaded = match k {
                        NUMBER => number,
                        ARCH => audit,
                        place => {
                            let argument = arguments.get((place - FIRST_ARGUMENT) as usize / 8).unwrap_or(&0);
                            if (place - FIRST_ARGUMENT).is_multiple_of(8) {
                                *argument as u32
                            } else {
                                (argument >> 32) as u32
                            }
                        }
                    };
                    continue;
                }
                AND => {
                    loaded &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                IF_EQUAL => loaded == k,
                IF_AT_LEAST => loaded >= k,
                IF_GREATER => loaded > k,
                _ => panic!("an unknown operation"),
            };
            at += usize::from(if holds { jump_true } else { jump_false });
        }
    }

    fn compiled(syscalls: &str) -> Result<Vec<Instruction>, BadProfile> {
        let json =
            format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{syscalls}]}}"#);
        compile_profile(&json, Capabilities::default(), "6.1.0-3-amd64")
    }

    const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_not_named_gets_the_default() {
        let program =
            compiled(r#"{"names":["read","nonsense"],"action":"SCMP_ACT_ALLOW","args":null}"#).unwrap();
        assert_eq!(run(&program, X86_64.audit, 0, &[]), RET_ALLOW);
        assert_eq!(run(&program, X86_64.audit, 1, &[]), ENOSYS);
        assert_eq!(run(&program, I386.audit, 3, &[]), RET_ALLOW);
        assert_eq!(run(&program, X86_64.audit, 3000, &[]), RET_ENOSYS);
        assert_eq!(run(&program, 7, 0, &[]), RET_KILL);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn comparisons_take_all_bits() {
        let big = 5u64 << 32 | 7;
        let values = [0, 6, 7, 8, 4u64 << 32 | 9, big - 1, big, big + 1, 6u64 << 32, u64::MAX];
        type Holds = fn(u64, u64) -> bool;
        let cases: [(&str, Holds); 6] = [
            ("EQ", |a, b| a == b),
            ("NE", |a, b| a != b),
            ("GT", |a, b| a > b),
            ("GE", |a, b| a >= b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
        ];
        for (op, holds) in cases {
            let rule = format!(
                r#"{{"name":"read","action":"SCMP_ACT_ALLOW","args":[{{"index":1,"value":{big},"op":"SCMP_CMP_{op}"}}]}}"#
            );
            let program = compiled(&rule).unwrap();
            for value in values {
                let expected = if holds(value, big) { RET_ALLOW } else { ENOSYS };
                assert_eq!(run(&program, X86_64.audit, 0, &[0, value]), expected, "{value:x} {op} {big:x}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn conditions_are_all_of_several_arguments_and_any_of_one() {
        let rule =
            |args: &str| format!(r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}"#);
        let is =
            |index: u32, value: u32| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
        let program = compiled(&rule(&format!("{},{}", is(0, 2), is(1, 1)))).unwrap();
        assert_eq!(run(&program, X86_64.audit, 41, &[2, 1]), RET_ALLOW);
        assert_eq!(run(&program, X86_64.audit, 41, &[2, 2]), ENOSYS);
        let program = compiled(&rule(&format!("{},{}", is(0, 2), is(0, 10)))).unwrap();
        assert_eq!(run(&program, X86_64.audit, 41, &[10]), RET_ALLOW);
        assert_eq!(run(&program, X86_64.audit, 41, &[3]), ENOSYS);
        let masked = r#"{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}"#;
        let program = compiled(&rule(masked)).unwrap();
        assert_eq!(run(&program, X86_64.audit, 41, &[0x11]), RET_ALLOW);
        assert_eq!(run(&program, X86_64.audit, 41, &[0x1000_0011]), ENOSYS);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn capabilities_arches_and_kernels_decide() {
        let cases = [
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, ENOSYS),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, RET_ALLOW),
            (r#""includes":{"caps":["CAP_CHOWN"],"minKernel":"4.8"}"#, RET_ALLOW),
            (r#""includes":{"minKernel":"6.2"}"#, ENOSYS),
            (r#""includes":{"arches":["arm64"]}"#, ENOSYS),
            (r#""excludes":{"arches":["amd64"]},"includes":null"#, ENOSYS),
        ];
        for (condition, expected) in cases {
            let rule = format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW",{condition}}}"#);
            assert_eq!(run(&compiled(&rule).unwrap(), X86_64.audit, 0, &[]), expected, "{condition}");
        }
    }

    #[test]
    fn a_profile_that_says_what_is_not_known_is_refused() {
        assert!(matches!(compile_profile("{", Capabilities::NONE, "6"), Err(BadProfile::Json(_))));
        for rule in [
            r#"{"name":"read","action":"SCMP_ACT_MAYBE"}"#,
            r#"{"name":"read","action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"LIKE"}]}"#,
            r#"{"name":"read","action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}"#,
        ] {
            assert!(compiled(rule).is_err(), "{rule}");
        }
    }
}
