//! What goes wrong when files are fetched, and what its user can do.

use std::io;

use crate::api::{Checksum, Failure, FailureKind};
use crate::registry::{self, Cause, Unreachable};

/// The result of fetching.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why files could not be fetched. Addresses are without passwords.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address can't be read.
    #[error("`{url}` is no address: {reason}")]
    Address {
        /// As written.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS can't be set up on this machine.
    #[error("cannot download `{url}`")]
    Setup {
        /// What was wanted.
        url: String,
        /// Why.
        #[source]
        source: Box<registry::Error>,
    },
    /// The host can't be reached, or broke off.
    #[error("cannot download `{url}`: {reason}")]
    Unreachable {
        /// What was wanted.
        url: String,
        /// What kind of failure.
        reason: Unreachable,
        /// The words of the network or TLS library.
        #[source]
        source: Cause,
    },
    /// The host answered with something else than the file.
    #[error("cannot download `{url}`: the server answered {status}")]
    Status {
        /// What was wanted.
        url: String,
        /// `404 Not Found`.
        status: String,
        /// Whether it asks for a credential; then which host.
        wants_credential: Option<String>,
    },
    /// Redirects that don't end, or that lead where they may not.
    #[error("cannot download `{url}`: {reason}")]
    Redirect {
        /// What was wanted.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// More bytes than anybody wants.
    #[error("cannot download `{url}`: it has more than {} bytes", limit)]
    TooLarge {
        /// What was wanted.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// Other bytes than the user expects.
    #[error("checksum of `{url}` is wrong: expected `{expected}`, got `{actual}`")]
    Checksum {
        /// What was wanted.
        url: String,
        /// What the user wrote.
        expected: Checksum,
        /// What came.
        actual: Checksum,
    },
    /// Another commit than the user expects.
    #[error("checksum of `{repository}` is wrong: expected commit `{expected}`, got `{actual}`")]
    Commit {
        /// The repository.
        repository: String,
        /// What the user wrote.
        expected: String,
        /// What the reference stands for.
        actual: String,
    },
    /// The disk refused.
    #[error("cannot {verb}")]
    Io {
        /// What was tried: `write the download`.
        verb: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// There is no git.
    #[error("cannot fetch `{repository}`: the program `{program}` is not installed")]
    NoProgram {
        /// The repository.
        repository: String,
        /// `git`.
        program: &'static str,
    },
    /// git failed.
    #[error("cannot {verb} `{repository}`{}", said(.words))]
    Git {
        /// What was tried: `fetch`, `check out`.
        verb: &'static str,
        /// The repository.
        repository: String,
        /// git's own last words, without secrets.
        words: String,
        /// Its host.
        host: String,
    },
    /// No branch, tag or commit of this name.
    #[error("repository `{repository}` has no branch, tag or commit `{reference}`")]
    NoReference {
        /// The repository.
        repository: String,
        /// As written.
        reference: String,
    },
    /// No such folder in the repository.
    #[error("repository `{repository}` has no folder `{subdir}`{}", said(.reason))]
    NoSubdir {
        /// The repository.
        repository: String,
        /// As written.
        subdir: String,
        /// What stands there instead.
        reason: String,
    },
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

impl Error {
    /// Returns what the user sees.
    pub fn failure(&self) -> Failure {
        let failure = Failure::from_error(self.kind(), self);
        match self.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Address { .. } => FailureKind::Invalid,
            Self::Status { status, .. } if status.starts_with("404") || status.starts_with("410") => {
                FailureKind::NotFound
            }
            Self::NoReference { .. } | Self::NoSubdir { .. } => FailureKind::NotFound,
            Self::Checksum { .. } | Self::Commit { .. } | Self::TooLarge { .. } => FailureKind::Corrupt,
            Self::Io { .. } | Self::Setup { .. } | Self::NoProgram { .. } => FailureKind::System,
            _ => FailureKind::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Setup { .. } => "install the package `ca-certificates`, or set SSL_CERT_FILE".to_owned(),
            Self::Unreachable { reason: Unreachable::Tls, .. } => {
                "add the server's authority to this machine's, or name a bundle in SSL_CERT_FILE".to_owned()
            }
            Self::Unreachable { reason: Unreachable::Dns, .. } => {
                "check the spelling of the host, and this machine's DNS".to_owned()
            }
            Self::Unreachable { reason: Unreachable::Refused, .. } => {
                "check that the server runs and listens there".to_owned()
            }
            Self::Unreachable { reason: Unreachable::NoRoute, .. } => {
                "check this machine's network and its proxy settings".to_owned()
            }
            Self::Status { wants_credential: Some(host), .. } => format!(
                "give a token: `--secret id=HTTP_AUTH_TOKEN_{host},env=…` (or HTTP_AUTH_HEADER_{host} for a \
                 whole header)"
            ),
            Self::Checksum { actual, .. } => {
                format!("if the file was meant to change, write `--checksum={actual}`")
            }
            Self::Commit { actual, .. } => {
                format!("if the repository was meant to move, write `--checksum={actual}`")
            }
            Self::NoReference { reference, .. }
                if (7..40).contains(&reference.len())
                    && reference.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                "a commit is named by all of its digits".to_owned()
            }
            Self::NoProgram { program, .. } => format!("install the package `{program}`"),
            Self::Git { words, host, .. } => return git_hint(words, host),
            _ => return None,
        };
        Some(text)
    }
}

/// What to do about git's own words.
fn git_hint(words: &str, host: &str) -> Option<String> {
    let has = |any: &[&str]| any.iter().any(|part| words.contains(part));
    let text = if has(&["could not read Username", "could not read Password", "Authentication failed", "403"])
    {
        format!("give a token: `--secret id=GIT_AUTH_TOKEN.{host},env=…` (or GIT_AUTH_HEADER.{host})")
    } else if has(&["Permission denied (publickey"]) {
        "lend it a key: start ssh-agent, `ssh-add`, and build with `--ssh default`".to_owned()
    } else if has(&["Host key verification failed"]) {
        let host = host.split(':').next().unwrap_or(host);
        format!("if you trust it: `ssh-keyscan {host} >> ~/.ssh/known_hosts`")
    } else if has(&["Could not resolve host", "unable to look up"]) {
        "check the spelling of the host, and this machine's DNS".to_owned()
    } else if has(&["transport 'file' not allowed", "transport 'ext' not allowed"]) {
        "submodules may come by http, https, git or ssh only; `?submodules=false` leaves them out".to_owned()
    } else if has(&["requested URL returned error: 30", "unable to update url base from redirection"]) {
        "the repository has moved, and a token goes to no other address: write the new one".to_owned()
    } else {
        return None;
    };
    Some(text)
}
