//! Hooks: programs of the caller's that hear of the container's state on their standard input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::config::Hook;
use super::error::{Doing, Error, Result};
use super::state::State;

/// The pause between two looks at a hook that has a timeout.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `hooks` one after another in `folder`, or where this process is; the first that fails ends it.
///
/// The spec doesn't say where they run. Users of runc rely on its ways: in the bundle, in the root filesystem for
/// `createContainer`, in `/` of the container for `startContainer`, and where `delete` was called for `poststop`.
pub(super) fn run(kind: &str, hooks: &[Hook], state: &State, folder: Option<&Path>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).map_err(std::io::Error::from).doing(|| "cannot write the state")?;
    for (index, hook) in hooks.iter().enumerate() {
        let name = || format!("error running {kind} hook #{index} (`{}`)", hook.path.display());
        one(hook, &state, folder).map_err(|reason| Error::Refused(format!("{}: {reason}", name())))?;
    }
    Ok(())
}

/// Runs all of `hooks`; failures are told and change nothing.
pub(super) fn run_all(
    kind: &str,
    hooks: &[Hook],
    state: &State,
    folder: Option<&Path>,
    warn: &mut dyn FnMut(String),
) {
    for hook in hooks {
        if let Err(error) = run(kind, std::slice::from_ref(hook), state, folder) {
            warn(error.to_string());
        }
    }
}

fn one(hook: &Hook, state: &[u8], folder: Option<&Path>) -> std::result::Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(text)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that doesn't read it has closed its end. A state fits a pipe: this doesn't wait.
        let _ = stdin.write_all(state);
    }
    let status = match hook.timeout {
        None => child.wait().map_err(text)?,
        Some(seconds) => wait(&mut child, Duration::from_secs(seconds)).map_err(text)?,
    };
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<std::process::ExitStatus> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait()?;
            return Err(std::io::Error::other(format!("it took longer than {} s", timeout.as_secs())));
        }
        std::thread::sleep(PAUSE);
    }
}
