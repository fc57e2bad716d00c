//! Runs of the `git` program, with an environment of kiln's making.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::super::error::{Error, Result};
use super::GitAccess;
use crate::api::{GitSource, without_password};
use crate::redacted::Redacted;

/// Most bytes that are read of an answer: a server names all that it has.
const ANSWER_BYTES: usize = 4 << 20;
/// Bytes of what git says last.
const WORDS_BYTES: usize = 8 << 10;
/// How long git may say nothing while it works with a network.
const SILENCE: Duration = Duration::from_secs(300);
/// Longest line of git's that is shown.
const SHOWN_CHARS: usize = 400;

/// How git is run for one repository.
#[derive(Debug)]
pub(super) struct Program {
    shown: String,
    remote: String,
    host: String,
    environment: Vec<(String, String)>,
    scratch: PathBuf,
    /// What must not be shown.
    secrets: Vec<String>,
}

impl Program {
    pub(super) fn new(source: &GitSource, access: &GitAccess, scratch: &Path) -> Self {
        let mut environment = access.environment.clone();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        let home = scratch.display().to_string();
        for name in ["HOME", "XDG_CONFIG_HOME", "GNUPGHOME"] {
            set(name, home.clone());
        }
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GIT_ALLOW_PROTOCOL", "http:https:git:ssh"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_PAGER", "cat"),
            ("GIT_EDITOR", "true"),
        ] {
            set(name, value.to_owned());
        }
        set("GIT_SSH_COMMAND", ssh(access));
        if let Some(agent) = &access.agent {
            set("SSH_AUTH_SOCK", agent.display().to_string());
        }
        let config = config(source, access);
        set("GIT_CONFIG_COUNT", config.len().to_string());
        for (index, (key, value)) in config.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), key);
            set(&format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let secrets = access.authorization.iter().map(text);
        Self {
            shown: source.shown(),
            remote: source.remote.clone(),
            host: source.host().to_owned(),
            environment,
            scratch: scratch.to_owned(),
            secrets: secrets.filter(|secret| !secret.is_empty()).collect(),
        }
    }

    /// Runs `git WORDS…` in `folder` and gives its standard output; `verb` is what is tried, for messages.
    pub(super) async fn run(
        &self,
        verb: &'static str,
        folder: Option<&Path>,
        words: &[&str],
    ) -> Result<String> {
        let mut command = Command::new("git");
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(folder.unwrap_or(&self.scratch)).args(words).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NoProgram { repository: self.shown.clone(), program: "git" }
            }
            _ => Error::Io { verb: "start git", source },
        })?;
        let (out, error) = (child.stdout.take(), child.stderr.take());
        // A checkout of a large tree says nothing for long; a network that does has gone.
        let asks = matches!(words.first(), Some(&("ls-remote" | "fetch")));
        let patience = if asks { SILENCE } else { Duration::MAX };
        let both = async { tokio::join!(first_bytes(out), last_bytes(error, patience)) };
        let (answer, said) = both.await;
        let said = match said {
            Some(said) => said,
            None => {
                let _ = child.start_kill();
                let minutes = SILENCE.as_secs() / 60;
                return Err(self.failed(verb, &format!("fatal: nothing moved for {minutes} minutes")));
            }
        };
        let status = child.wait().await.map_err(|source| Error::Io { verb: "wait for git", source })?;
        match status.success() {
            true => Ok(String::from_utf8_lossy(&answer).into_owned()),
            false => Err(self.failed(verb, &String::from_utf8_lossy(&said))),
        }
    }

    fn failed(&self, verb: &'static str, said: &str) -> Error {
        Error::Git {
            verb,
            repository: without_password(&self.remote),
            words: self.last_words(said),
            host: self.host.clone(),
        }
    }

    /// git's own words in one line: its errors, else its last line. Nothing secret, nothing that steers a terminal.
    fn last_words(&self, said: &str) -> String {
        let lines: Vec<&str> =
            said.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
        let errors = lines.iter().filter(|line| {
            ["fatal:", "error:", "remote: ", "ssh:", "Permission denied", "Host key"]
                .iter()
                .any(|start| line.contains(start))
        });
        let mut told: Vec<&str> = errors.copied().collect();
        told.dedup();
        if told.is_empty() {
            told.extend(lines.last());
        }
        let text = told.split_off(told.len().saturating_sub(3)).join("; ");
        let mut text = text.replace(&self.remote, &without_password(&self.remote));
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        text.chars().filter(|char| !char.is_control()).take(SHOWN_CHARS).collect()
    }
}

/// A credential for the environment, which knows texts only.
fn text(secret: &Redacted) -> String {
    String::from_utf8_lossy(secret.reveal()).into_owned()
}

/// ssh without the user's configuration and keys: only an agent that was lent, only hosts that are known.
fn ssh(access: &GitAccess) -> String {
    let mut words = vec!["ssh -F /dev/null".to_owned()];
    for option in
        ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityFile=/dev/null", "ConnectTimeout=30"]
    {
        words.push(format!("-o {option}"));
    }
    if let Some(path) = &access.known_hosts {
        let path = path.display().to_string().replace('\'', "'\\''");
        words.push(format!("-o 'UserKnownHostsFile={path}'"));
    }
    words.join(" ")
}

/// Configuration by the environment: nothing of it is on a command line or in the repository.
fn config(source: &GitSource, access: &GitAccess) -> Vec<(String, String)> {
    let mut config: Vec<(String, String)> = [
        ("advice.detachedHead", "false"),
        ("core.attributesFile", "/dev/null"),
        ("core.autocrlf", "false"),
        ("core.excludesFile", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.hooksPath", "/dev/null"),
        ("core.logAllRefUpdates", "false"),
        ("core.symlinks", "true"),
        ("credential.helper", ""),
        ("fetch.recurseSubmodules", "false"),
        ("gc.auto", "0"),
        ("init.defaultBranch", "master"),
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", "120"),
        ("maintenance.auto", "false"),
        ("protocol.version", "2"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    config.push(("remote.origin.url".to_owned(), source.remote.clone()));
    if let Some(authorization) = &access.authorization
        && let Some((scheme, _)) = source.remote.split_once("://")
    {
        let key = format!("http.{scheme}://{}/.extraHeader", source.host());
        config.push((key, format!("Authorization: {}", text(authorization))));
        // git would take the header along to wherever it is sent.
        config.push(("http.followRedirects".to_owned(), "false".to_owned()));
    }
    config
}

/// Reads all, and keeps the beginning.
async fn first_bytes(reader: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut reader) = reader else { return kept };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > ANSWER_BYTES {
            // git ends by itself when nobody reads.
            break;
        }
    }
    kept
}

/// Reads all, and keeps the end; `None` after a long silence.
async fn last_bytes(reader: Option<impl AsyncRead + Unpin>, patience: Duration) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut reader) = reader else { return Some(kept) };
    let mut buffer = vec![0; 4 << 10];
    loop {
        match tokio::time::timeout(patience, reader.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => {
                kept.extend_from_slice(&buffer[..count]);
                let surplus = kept.len().saturating_sub(WORDS_BYTES);
                kept.drain(..surplus);
            }
            Ok(_) => return Some(kept),
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_git_are_shown_without_secrets_and_escapes() {
        let source = GitSource::parse("https://me:pw@h/x.git").unwrap().unwrap();
        let access = GitAccess { authorization: Some(Redacted::new("Bearer t0ken")), ..GitAccess::default() };
        let program = Program::new(&source, &access, Path::new("/x"));
        let said =
            "Cloning\rremote: \x1b[31mno Bearer t0ken\nfatal: unable to access 'https://me:pw@h/x.git/'\n";
        assert_eq!(
            program.last_words(said),
            "remote: [31mno ***; fatal: unable to access 'https://me:***@h/x.git/'"
        );
        assert_eq!(program.last_words("one\ntwo\n"), "two");
    }
}
