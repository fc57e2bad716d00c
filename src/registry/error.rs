//! What can go wrong between kiln and a registry.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use kiln_cache::Digest;

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing listens there.
    Refused,
    /// The network doesn't lead there.
    NoRoute,
    /// Its name has no address.
    Dns,
    /// Its certificate isn't trusted, or it doesn't speak TLS.
    Tls,
    /// It said nothing in time.
    Timeout,
    /// It closed the connection in the middle.
    Broken,
    /// Anything else.
    Other,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to it",
            Self::Dns => "its name can't be resolved",
            Self::Tls => "TLS failed",
            Self::Timeout => "timed out",
            Self::Broken => "connection broken",
            Self::Other => "request failed",
        })
    }
}

/// A failure between kiln and a registry.
///
/// `registry` names who answered: `docker.io`, or `docker.io through mirror http://127.0.0.1:5000`.
/// `reference` is spelled as the user would.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A hosts.toml, or a certificate that it names, can't be read.
    #[error("cannot read `{}`", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A hosts.toml, or a certificate that it names, has wrong content.
    #[error("`{}` is not valid: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The HTTP client can't be made, such as without any trusted certificate on the machine.
    #[error("cannot set up TLS for registry `{registry}`: {reason}")]
    Setup {
        /// Who was to be asked.
        registry: String,
        /// Why.
        reason: String,
    },
    /// No host of this registry is configured for the action.
    #[error("registry `{registry}` has no host that may {action}")]
    NoHost {
        /// The registry.
        registry: String,
        /// `pull`, `resolve` or `push`.
        action: &'static str,
    },
    /// The registry could not be reached, or broke off.
    #[error("cannot reach registry `{registry}`: {reason}")]
    Unreachable {
        /// Who was asked.
        registry: String,
        /// What kind of failure.
        reason: Unreachable,
        /// The cause in the words of the network or TLS library.
        #[source]
        source: Cause,
    },
    /// The registry doesn't let an anonymous user do this, or hides that the repository doesn't exist.
    #[error("{action} access denied for {reference}, repository does not exist or may require login{}", said(.message))]
    Denied {
        /// `pull` or `push`.
        action: &'static str,
        /// The repository.
        reference: String,
        /// Who answered.
        registry: String,
        /// The registry's own words.
        message: String,
    },
    /// The registry wants a user name and password.
    #[error(
        "registry `{registry}` asks for a user name and a password for {reference}, and kiln has no login yet"
    )]
    LoginRequired {
        /// Who answered.
        registry: String,
        /// The repository.
        reference: String,
    },
    /// There is no such tag or digest.
    #[error("manifest for {reference} not found{}", said(.message))]
    ManifestUnknown {
        /// The image.
        reference: String,
        /// Who answered.
        registry: String,
        /// The registry's own words.
        message: String,
    },
    /// There is no such repository.
    #[error("repository {reference} not found{}", said(.message))]
    RepositoryUnknown {
        /// The repository.
        reference: String,
        /// Who answered.
        registry: String,
        /// The registry's own words.
        message: String,
    },
    /// The registry lacks a blob that a manifest names.
    #[error("registry `{registry}` doesn't have blob `{digest}` of {reference}")]
    BlobUnknown {
        /// Who answered.
        registry: String,
        /// The image.
        reference: String,
        /// The blob.
        digest: Digest,
    },
    /// Any other refusal.
    #[error("registry `{registry}` answered {} for {reference}{}", named(*status), said(.message))]
    Status {
        /// Who answered.
        registry: String,
        /// The image.
        reference: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own code and words.
        message: String,
    },
    /// An answer that the protocol doesn't allow.
    #[error("registry `{registry}` gave a wrong answer for {reference}: {reason}")]
    Protocol {
        /// Who answered.
        registry: String,
        /// The image.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Content isn't what its digest says.
    #[error(
        "registry `{registry}` gave wrong content for {reference}: expected `{expected}`, got `{actual}`"
    )]
    DigestMismatch {
        /// Who answered.
        registry: String,
        /// The image.
        reference: String,
        /// The digest asked for, or announced.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error(
        "blob `{digest}` of {reference} from registry `{registry}` has {actual} bytes instead of {expected}"
    )]
    SizeMismatch {
        /// Who answered.
        registry: String,
        /// The image.
        reference: String,
        /// The blob.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// What the registry sent or announced.
        actual: u64,
    },
    /// An image of a form that nothing makes any more.
    #[error(
        "{reference} is a Docker image manifest of schema 1, which is not supported; ask its owner to push it again with a current tool"
    )]
    Schema1 {
        /// The image.
        reference: String,
    },
    /// Neither an image nor an index of images.
    #[error("{reference} is not an image but `{media_type}`")]
    NotAnImage {
        /// What was asked for.
        reference: String,
        /// What it is.
        media_type: String,
    },
    /// The file to push can't be read.
    #[error("cannot read blob `{digest}` to push it")]
    ReadBlob {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every mirror and the registry itself failed.
    #[error("{} (before that: {})", with_cause(last), mirrors.join("; "))]
    EveryHost {
        /// The last host's failure, usually the registry's own.
        last: Box<Error>,
        /// The failures before it, in the order tried.
        mirrors: Vec<String>,
    },
}

/// An error of the network or TLS library, flattened to its innermost words.
#[derive(Debug, Clone)]
pub struct Cause(String);

impl Cause {
    /// Wraps somebody's words.
    pub(crate) fn new(words: &str) -> Self {
        Self(words.to_owned())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

/// Returns an error with its cause in one line.
pub(super) fn with_cause(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Returns an HTTP status with its name: `503 Service Unavailable`.
fn named(status: u16) -> String {
    reqwest::StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string())
}

/// Appends a registry's words, if it said any.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// Tells whether the image or repository doesn't exist or hides itself.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::EveryHost { last, .. } => last.is_not_found(),
            Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::Denied { .. }
            | Self::BlobUnknown { .. } => true,
            _ => false,
        }
    }

    /// Tells whether the content is damaged or hostile.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::EveryHost { last, .. } => last.is_corrupt(),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } | Self::Protocol { .. } => true,
            _ => false,
        }
    }

    /// Returns something that the user can do, if that is clear.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::EveryHost { last, .. } => return last.hint(),
            Self::Unreachable { registry, reason: Unreachable::Refused, .. } => {
                format!("check that `{registry}` runs and listens there")
            }
            Self::Unreachable { reason: Unreachable::NoRoute, .. } => {
                "check this machine's network and its proxy settings".to_owned()
            }
            Self::Unreachable { reason: Unreachable::Dns, .. } => {
                "check the registry's name and this machine's DNS".to_owned()
            }
            // webpki refuses what `openssl req -x509` makes by default, though other clients don't.
            Self::Unreachable { reason: Unreachable::Tls, source, .. }
                if source.0.contains("CaUsedAsEndEntity") =>
            {
                "the registry's certificate is an authority's own; make it with `basicConstraints=CA:FALSE`, \
                 or have one signed by that authority"
                    .to_owned()
            }
            Self::Unreachable { registry, reason: Unreachable::Tls, .. } => format!(
                "install the registry's CA, name it as `ca` in `certs.d/{registry}/hosts.toml`, or, \
                 for a registry without TLS, write `server = \"http://{registry}\"` there"
            ),
            Self::Denied { .. } => {
                "check the spelling of the name; only public repositories can be used yet".to_owned()
            }
            Self::LoginRequired { .. } => "use a registry that lets anonymous users in".to_owned(),
            Self::Setup { .. } => "install the package `ca-certificates`, or set SSL_CERT_FILE".to_owned(),
            _ => return None,
        };
        Some(text)
    }

    /// Tells whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { reason, .. } => matches!(reason, Unreachable::Timeout | Unreachable::Broken),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            _ => false,
        }
    }

    /// Says that nothing moved for too long.
    pub(super) fn timeout(registry: &str) -> Self {
        let source = Cause("nothing moved for too long".to_owned());
        Self::Unreachable { registry: registry.to_owned(), reason: Unreachable::Timeout, source }
    }

    /// Wraps what reqwest says of `registry`.
    pub(super) fn from_http(registry: &str, error: reqwest::Error) -> Self {
        let (reason, source) = unreachable(error);
        Self::Unreachable { registry: registry.to_owned(), reason, source }
    }
}

/// Sorts what reqwest says into kinds that a person can act on.
pub(crate) fn unreachable(error: reqwest::Error) -> (Unreachable, Cause) {
    let https = error.url().is_some_and(|url| url.scheme() == "https");
    // A redirected blob's address carries a signature, which is as good as a password.
    let error = error.without_url();
    let (mut found, mut innermost) = (None, error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        innermost = cause.to_string();
        found = classify(cause).or(found);
        source = cause.source();
    }
    let reason = match found {
        _ if error.is_timeout() => Unreachable::Timeout,
        // A peer that hangs up in the handshake speaks no TLS, or none that suits.
        Some(Unreachable::Broken) if error.is_connect() && https => Unreachable::Tls,
        Some(reason) => reason,
        None if error.is_connect() || error.is_builder() => Unreachable::Other,
        // What hyper says of an answer that ends too soon has no public type.
        None => Unreachable::Broken,
    };
    (reason, Cause(innermost))
}

/// Recognises a link of an error chain.
fn classify(cause: &(dyn StdError + 'static)) -> Option<Unreachable> {
    if cause.is::<rustls::Error>() {
        return Some(Unreachable::Tls);
    }
    if let Some(io) = cause.downcast_ref::<io::Error>() {
        // An io error's `source` skips what it wraps, so that has to be looked at here.
        let inner = io.get_ref().and_then(|inner| classify(inner));
        return inner.or(match io.kind() {
            io::ErrorKind::ConnectionRefused => Some(Unreachable::Refused),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(Unreachable::Broken),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Some(Unreachable::NoRoute),
            io::ErrorKind::TimedOut => Some(Unreachable::Timeout),
            _ => None,
        });
    }
    // hyper-util's connector has no type for it.
    cause.to_string().starts_with("dns error").then_some(Unreachable::Dns)
}
