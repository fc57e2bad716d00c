//! What `kiln runtime` prints.

use std::process::Command;

use serde::Serialize;
use serde_json::{Value, json};

use super::{State, Status};
use crate::bundle::{self, OCI_VERSION};

/// A value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists of them: nothing that JSON doesn't have.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// `list`
pub(super) fn list(states: &[State], format: &str, quiet: bool) -> String {
    if quiet {
        return states.iter().map(|state| format!("{}\n", state.id)).collect();
    }
    if format == "json" {
        return json(&states);
    }
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED"].map(str::to_owned);
    let row = |state: &State| {
        let bundle = state.bundle.display().to_string();
        [state.id.clone(), state.pid.to_string(), word(state.status), bundle, state.created.clone()]
    };
    let rows: Vec<[String; 5]> = std::iter::once(heading).chain(states.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn word(status: Status) -> String {
    status.word().to_owned()
}

/// `ps`: the machine's own, cut down to the container's processes.
pub(super) fn processes(pids: &[i32], arguments: &[String]) -> bundle::Result<String> {
    let fail = |source| bundle::Error::System { what: "cannot run `ps`".into(), source };
    let all = if arguments.is_empty() { &["-ef".to_owned()][..] } else { arguments };
    let output = Command::new("ps").args(all).output().map_err(fail)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column =
        column.ok_or_else(|| bundle::Error::Refused("couldn't find PID field in ps output".into()))?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(heading).chain(lines.filter(is_ours)).map(|line| format!("{line}\n")).collect())
}

/// `features`, in the form of the runtime-spec.
pub(super) fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime",
            "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "relatime", "ro",
            "rprivate", "rro", "rshared", "rslave", "runbindable", "rw", "shared", "slave", "strictatime", "suid",
            "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false},
            "seccomp": {"enabled": true},
            "apparmor": {"enabled": true},
            "selinux": {"enabled": false},
        },
    })
}
