//! `--chmod`: a mode in octal, or changes of the mode that a file has.

use serde::{Deserialize, Serialize};

/// What `--chmod` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chmod {
    /// The same mode for everything.
    Mode(u32),
    /// `u=rwX,go=rX`: each file's and directory's own mode is changed.
    Changes(Vec<ModeChange>),
}

/// One `who`, `+`, `-` or `=`, and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// The bits that it may touch.
    who: u32,
    op: Op,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Op {
    Add,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    /// These bits.
    Bits(u32),
    /// `X`: execution of what can be executed by somebody, and of directories.
    SomeExecution,
    /// The permissions that the user (6), the group (3) or the others (0) have by then: the shift.
    Copy(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const ALL: u32 = USER | GROUP | OTHERS;
const STICKY: u32 = 0o1000;
const EXECUTION: u32 = 0o111;

impl Chmod {
    /// Reads a mode of at most `07777`, or a comma list of changes; `None` for anything else.
    ///
    /// Without a `u`, `g`, `o` or `a` a change is for all, whatever the umask, as BuildKit has it. What was
    /// executable for `X` is decided by the mode before all changes. Source: setmode(3) of BSD.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Self::Mode);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes)?;
        }
        Some(Self::Changes(changes))
    }

    /// Returns the mode that something with `mode` gets.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let changes = match self {
            Self::Mode(mode) => return *mode,
            Self::Changes(changes) => changes,
        };
        let executable = is_dir || mode & EXECUTION != 0;
        changes.iter().fold(mode, |now, change| {
            let bits = match change.what {
                What::Bits(bits) => bits,
                What::SomeExecution if executable => EXECUTION,
                What::SomeExecution => 0,
                What::Copy(shift) => {
                    let bits = now >> shift & 0o7;
                    bits << 6 | bits << 3 | bits
                }
            };
            match change.op {
                Op::Add => now | bits & change.who,
                Op::Remove => now & !(bits & change.who),
            }
        })
    }
}

fn parse_clause(clause: &str, changes: &mut Vec<ModeChange>) -> Option<()> {
    let start = clause.find(['+', '-', '='])?;
    let mut who = 0;
    for char in clause[..start].chars() {
        who |= match char {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => ALL,
            _ => return None,
        };
    }
    let who = if who == 0 { ALL } else { who };
    let mut op = Op::Add;
    for char in clause[start..].chars() {
        match char {
            '+' => op = Op::Add,
            '-' => op = Op::Remove,
            '=' => {
                changes.push(ModeChange { who, op: Op::Remove, what: What::Bits(ALL) });
                op = Op::Add;
            }
            char => changes.push(permission(char, who, op)?),
        }
    }
    Some(())
}

fn permission(char: char, who: u32, op: Op) -> Option<ModeChange> {
    let what = match char {
        'r' => What::Bits(0o444),
        'w' => What::Bits(0o222),
        'x' => What::Bits(EXECUTION),
        's' => What::Bits(0o6000),
        // The others alone have no sticky bit.
        't' if who == OTHERS => What::Bits(0),
        't' => return Some(ModeChange { who: STICKY, op, what: What::Bits(STICKY) }),
        'X' => What::SomeExecution,
        'u' => What::Copy(6),
        'g' => What::Copy(3),
        'o' => What::Copy(0),
        _ => return None,
    };
    Some(ModeChange { who, op, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docker.io 28.2.2 made of a file with 0666, a file with 0755 and a directory with 01124.
    #[test]
    fn modes_come_out_as_in_docker() {
        for (text, file, program, dir) in [
            ("+w", 0o666, 0o777, 0o1326),
            ("-w", 0o444, 0o555, 0o1104),
            ("=r", 0o444, 0o444, 0o1444),
            ("o+t", 0o666, 0o755, 0o1124),
            ("u+t", 0o1666, 0o1755, 0o1124),
            ("+t", 0o1666, 0o1755, 0o1124),
            ("g=u", 0o666, 0o775, 0o1114),
            ("u+s", 0o4666, 0o4755, 0o5124),
            ("g+s", 0o2666, 0o2755, 0o3124),
            ("o+s", 0o666, 0o755, 0o1124),
            ("a+s", 0o6666, 0o6755, 0o7124),
            ("u=rwX,go=rX", 0o644, 0o755, 0o1755),
            ("a=r,u+X", 0o444, 0o544, 0o1544),
            ("-X", 0o666, 0o644, 0o1024),
            ("a-X", 0o666, 0o644, 0o1024),
            ("u=g", 0o666, 0o555, 0o1224),
            ("ug+rw,o=", 0o660, 0o770, 0o1760),
            ("a+rwx-w", 0o555, 0o555, 0o1555),
            ("u+rwxo", 0o766, 0o755, 0o1724),
            ("777", 0o777, 0o777, 0o777),
            ("00755", 0o755, 0o755, 0o755),
            ("u=rws", 0o4666, 0o4655, 0o5624),
            ("a=rwxt", 0o1777, 0o1777, 0o1777),
            ("go=", 0o600, 0o700, 0o1100),
            ("a+", 0o666, 0o755, 0o1124),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            let made = [chmod.apply(0o666, false), chmod.apply(0o755, false), chmod.apply(0o1124, true)];
            assert_eq!(
                made.map(|mode| format!("{mode:o}")),
                [file, program, dir].map(|mode: u32| format!("{mode:o}")),
                "{text}"
            );
        }
    }

    /// Those that docker.io 28.2.2 refuses.
    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "8", "099", "12345678", "010000", "0o755", "u+y", "z+x", "u", ",u+x", "u+x,,", "+755", "u=7",
            "u+x,755",
        ] {
            assert_eq!(Chmod::parse(text), None, "{text}");
        }
    }
}
