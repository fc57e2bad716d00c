//! What can be begun on another processor while a command's words are still to be read.

use std::ffi::OsString;

use crate::engine::Ahead;

/// How flags begin with which a container gets a stage, a cgroup or a terminal of another kind than most have. One that
/// is missing here, or stands for something else, costs time and nothing more.
const SPECIAL: [&str; 23] = [
    "--blkio",
    "--cgroup",
    "--cpu",
    "--device",
    "--help",
    "--ipc",
    "--kernel-memory",
    "--memory",
    "--net=host",
    "--net=container",
    "--network=host",
    "--network=container",
    "--oom",
    "--pid",
    "--privileged",
    "--runtime",
    "--security-opt",
    "--shm-size",
    "--sysctl",
    "--tty",
    "--userns",
    "--uts",
    "-m",
];

/// Begins what command `name` is going to need.
pub(super) fn begin(name: &str, words: &[OsString]) -> Option<Ahead> {
    // Nobody else may.
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let begun = match name {
        "run" => Ahead::monitor(!words.iter().any(is_special)),
        "exec" => Ahead::exec(),
        _ => return None,
    };
    // What went wrong shows when it is done again.
    begun.ok()
}

/// Tells whether a word is a flag that makes a container special, or looks like one.
fn is_special(word: &OsString) -> bool {
    let Some(word) = word.to_str() else { return false };
    let is_terminal = word.strip_prefix('-').is_some_and(|letters| {
        letters.contains('t') && letters.bytes().all(|letter| b"dit".contains(&letter))
    });
    is_terminal || SPECIAL.iter().any(|special| word.starts_with(special))
}
