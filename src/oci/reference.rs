//! Names of images: `debian`, `registry.example:5000/team/app:1.2@sha256:…`.
//!
//! The grammar and the short forms are those of github.com/distribution/reference, so that a name
//! means the same here as in every other tool.

use std::fmt;
use std::str::FromStr;

use kiln_cache::Digest;

/// The registry that names without one belong to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// An old name of the default registry.
const DEFAULT_REGISTRY_ALIAS: &str = "index.docker.io";
/// Where the default registry keeps names of one part.
const OFFICIAL_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
const TAG_MAX_CHARS: usize = 128;
const NAME_MAX_CHARS: usize = 255;

/// A name of an image: registry, repository, and tag or digest.
///
/// What `parse` gives has a tag, a digest or both. Displayed in full: `docker.io/library/debian:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`.
    pub registry: String,
    /// `library/debian`.
    pub repository: String,
    /// `bookworm`.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is nothing, or nothing before the tag.
    #[error("invalid reference format: repository name must have at least one component")]
    Empty,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    UpperCase {
        /// The repository as written.
        name: String,
        /// The same in lower case, for a hint.
        lower: String,
    },
    /// The repository has other characters than the grammar allows.
    #[error("invalid reference format: `{0}` is not a repository name")]
    Repository(String),
    /// The registry is no host name or address.
    #[error("invalid reference format: `{0}` is not a registry's host[:port]")]
    Registry(String),
    /// The tag is empty, too long or has wrong characters.
    #[error(
        "invalid reference format: `{0}` is not a tag (letters, digits, `_`, `.` and `-`, at most {TAG_MAX_CHARS})"
    )]
    Tag(String),
    /// The digest isn't `sha256:<64 hex digits>`.
    #[error("invalid reference format: `{0}` is not a digest of the form `sha256:<64 hex digits>`")]
    Digest(String),
    /// The repository is too long.
    #[error("invalid reference format: repository name must not be more than {NAME_MAX_CHARS} characters")]
    TooLong,
    /// The name could be mistaken for an image's id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

impl ReferenceError {
    /// Returns what the user could write instead, if that is clear.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UpperCase { lower, .. } => {
                let lower = lower.strip_prefix("library/").unwrap_or(lower);
                Some(format!("write it in lower case: `{lower}`"))
            }
            _ => None,
        }
    }
}

impl Reference {
    /// Parses `text` as [`FromStr`] does.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(parse_tag(tag)?)),
            None => (rest, None),
        };
        check_repository(path)?;
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{OFFICIAL_NAMESPACE}/{path}") } else { path.to_owned() };
        if repository.len() > NAME_MAX_CHARS {
            return Err(ReferenceError::TooLong);
        }
        let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Returns the name without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the name as users write it, without tag and digest: `debian`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let path = &self.repository;
        let short = path.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(path);
        // `docker.io/some.host/app` without its registry would be another image.
        if short.split_once('/').is_some_and(|(first, _)| is_registry(first)) {
            return self.name();
        }
        short.to_owned()
    }

    /// Returns the whole name as users write it: `debian:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), Suffix(self))
    }

    /// Returns the same repository with `tag` and no digest.
    ///
    /// The tag isn't checked; one that a user wrote goes through [`Reference::parse`].
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// Returns the same repository at `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns what the registry is asked for: the digest, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

/// Splits off what stands before the first `/`, if it is a registry and not the head of a repository.
fn split_registry(text: &str) -> Result<(&str, &str), ReferenceError> {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => {
            if !is_host_and_port(first) {
                return Err(ReferenceError::Registry(shown(first)));
            }
            let registry = if first == DEFAULT_REGISTRY_ALIAS { DEFAULT_REGISTRY } else { first };
            Ok((registry, rest))
        }
        _ => Ok((DEFAULT_REGISTRY, text)),
    }
}

/// A first part is a registry if it can't be a part of a repository, or is `localhost`.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && port.strip_prefix(':').is_some_and(is_port);
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn check_repository(path: &str) -> Result<(), ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let lower = path.to_ascii_lowercase();
    if !lower.split('/').all(is_component) {
        return Err(ReferenceError::Repository(shown(path)));
    }
    if lower != path {
        return Err(ReferenceError::UpperCase { name: shown(path), lower: shown(&lower) });
    }
    Ok(())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|b| alphanumeric(*b)) && bytes.last().is_some_and(|b| alphanumeric(*b));
    ends && text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
}

fn parse_tag(text: &str) -> Result<String, ReferenceError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = text.len() <= TAG_MAX_CHARS
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(ReferenceError::Tag(shown(text))) }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    text.parse().map_err(|_| ReferenceError::Digest(shown(text)))
}

/// Cuts hostile lengths for messages.
fn shown(text: &str) -> String {
    text.chars().take(NAME_MAX_CHARS).collect()
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Tag and digest as they follow a name.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.0.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, Suffix(self))
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_completed_and_shortened_again() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/a/b__c.d-e--f", "127.0.0.1:5000/a/b__c.d-e--f:latest", ""),
            ("[::1]:5000/app", "[::1]:5000/app:latest", ""),
            ("ghcr.io/org/app:v1.2_3-x", "ghcr.io/org/app:v1.2_3-x", ""),
            ("Registry/app", "Registry/app:latest", ""),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            ("host:5000", "docker.io/library/host:5000", "host:5000"),
            ("docker.io/some.host/app", "docker.io/some.host/app:latest", ""),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            let familiar = if familiar.is_empty() { full } else { familiar };
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(reference.familiar().parse(), Ok(reference.clone()), "{text}");
            assert_eq!(full.parse(), Ok(reference), "{text}");
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_default_tag() {
        let by_digest: Reference = format!("debian@{DIGEST}").parse().unwrap();
        assert_eq!(by_digest.tag, None);
        assert_eq!(by_digest.familiar(), format!("debian@{DIGEST}"));
        assert_eq!(by_digest.identifier(), DIGEST);
        let both: Reference = format!("host:1/app:2@{DIGEST}").parse().unwrap();
        assert_eq!((both.tag.as_deref(), both.identifier().as_str()), (Some("2"), DIGEST));
        assert_eq!(both.to_string(), format!("host:1/app:2@{DIGEST}"));
        assert_eq!(both.with_tag("3").to_string(), "host:1/app:3");
    }

    #[test]
    fn upper_case_names_are_refused_with_the_lower_case_one() {
        let error = "Debian:Tag".parse::<Reference>().unwrap_err();
        assert_eq!(error.to_string(), "invalid reference format: repository name (Debian) must be lowercase");
        assert_eq!(error.hint().unwrap(), "write it in lower case: `debian`");
        let error = "localhost:1/a/B".parse::<Reference>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "write it in lower case: `a/b`");
    }

    #[test]
    fn names_outside_the_grammar_are_refused_by_the_part_at_fault() {
        use ReferenceError as E;
        let long_tag = "a".repeat(129);
        let hex = "0".repeat(64);
        for (text, error) in [
            ("", E::Empty),
            (":tag", E::Empty),
            ("localhost:5000/", E::Empty),
            ("localhost:5000/:tag", E::Empty),
            ("a//b", E::Repository("a//b".into())),
            ("a/", E::Repository("a/".into())),
            ("-a", E::Repository("-a".into())),
            ("a.", E::Repository("a.".into())),
            ("a..b", E::Repository("a..b".into())),
            ("a___b", E::Repository("a___b".into())),
            ("a._b", E::Repository("a._b".into())),
            ("a b", E::Repository("a b".into())),
            ("../etc", E::Registry("..".into())),
            ("x/../etc", E::Repository("x/../etc".into())),
            ("caf\u{e9}", E::Repository("caf\u{e9}".into())),
            ("host:port/a", E::Registry("host:port".into())),
            ("host:99999/a", E::Registry("host:99999".into())),
            ("-h.x/a", E::Registry("-h.x".into())),
            ("[::g]/a", E::Registry("[::g]".into())),
            ("a:", E::Tag(String::new())),
            ("a:-x", E::Tag("-x".into())),
            ("a:b:c", E::Tag("b:c".into())),
            ("a@sha256:00", E::Digest("sha256:00".into())),
            ("a@", E::Digest(String::new())),
            (&format!("a:{long_tag}"), E::Tag(long_tag.clone())),
            (&hex, E::LooksLikeId(hex.clone())),
            (&"a".repeat(256), E::TooLong),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(error), "{text}");
        }
        assert!(format!("a:{}", "a".repeat(128)).parse::<Reference>().is_ok());
    }

    #[test]
    fn serde_spells_the_full_name() {
        let reference: Reference = "debian".parse().unwrap();
        let json = serde_json::to_string(&reference).unwrap();
        assert_eq!(json, r#""docker.io/library/debian:latest""#);
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_is_spelled_so_that_it_parses_again(
            text in "([a-zA-Z0-9.:_-]{1,12}/){0,3}[a-z0-9._:@/-]{0,20}",
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
                proptest::prop_assert_eq!(reference.familiar().parse(), Ok(reference));
            }
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "\\PC*") {
            let _ = text.parse::<Reference>();
            let _ = text.parse::<crate::oci::Platform>();
        }
    }
}
