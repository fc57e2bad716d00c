//! Values of the form `KEY=value` and their kin, and names of images.

use std::path::Path;

use crate::api::{FailureKind, NetworkMode};
use crate::cli::error::Error;
use crate::cli::settings::Environment;
use crate::oci::{Reference, ReferenceError};

/// Splits `KEY=value`; without a value it is empty.
pub(crate) fn label(text: &str) -> Result<(String, String), Error> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(
            Error::usage(format!("invalid label `{text}`: the key is empty")).hint("write it as `KEY=VALUE`")
        );
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Splits `KEY=value`; a bare `KEY` takes the caller's value, and is left out when there is none.
pub(crate) fn variable(text: &str, environment: &Environment) -> Result<Option<(String, String)>, Error> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, environment.get(text)),
    };
    if key.is_empty() {
        return Err(Error::usage(format!("invalid variable `{text}`: the name is empty"))
            .hint("write it as `NAME=VALUE`"));
    }
    Ok(value.map(|value| (key.to_owned(), value.to_owned())))
}

/// Reads `--env-file` and `--label-file`: a `KEY=value` per line, `#` begins a comment line.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Reads `--env-file`: what looks like a mistake is one, rather than a variable that nobody finds.
pub(crate) fn env_lines(path: &Path) -> Result<Vec<String>, Error> {
    let lines = lines(path)?;
    for line in &lines {
        let name = line.split('=').next().unwrap_or(line);
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::usage(format!(
                "`{}` has the line `{line}`, without a variable's name",
                path.display()
            ))
            .hint("each line is `KEY=value`, `KEY`, or a comment after `#`"));
        }
    }
    Ok(lines)
}

/// Splits `--add-host`: `name:address` or `name=address`.
pub(crate) fn host(text: &str) -> Result<(String, String), Error> {
    let bad = || {
        Error::usage(format!("invalid host `{text}`"))
            .hint("write it as `name:address`, such as `db:10.0.0.2`")
    };
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if address == "host-gateway" {
        return Err(Error::usage("`host-gateway` in `--add-host` is not supported yet"));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || name.contains(char::is_whitespace) || address.parse::<std::net::IpAddr>().is_err() {
        return Err(bad());
    }
    Ok((name.to_owned(), address.to_owned()))
}

/// Reads `--network`.
pub(crate) fn network(text: &str) -> Result<NetworkMode, Error> {
    match text {
        "default" | "bridge" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => Err(Error::usage(format!("`--network {other}` is not supported yet"))
            .hint("it may be bridge, none or host")),
    }
}

/// Reads an image's name.
pub(crate) fn reference(text: &str) -> Result<Reference, Error> {
    text.parse().map_err(|error: ReferenceError| {
        let told = Error::usage(format!("invalid image name `{text}`: {error}"));
        match error {
            ReferenceError::UpperCase { lower, .. } => told.hint(format!("did you mean `{lower}`?")),
            _ => told,
        }
    })
}

/// Checks that `text` can name an image: a reference, or an id or its beginning.
pub(crate) fn reference_or_id(text: &str) -> Result<(), Error> {
    let id = text.strip_prefix("sha256:").unwrap_or(text);
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    reference(text).map(drop)
}

/// Reads a name that an image is to be given: with a tag, without a digest.
pub(crate) fn new_name(text: &str) -> Result<Reference, Error> {
    let reference = reference(text)?;
    if reference.digest.is_some() {
        return Err(Error::usage(format!("`{text}` has a digest; a new name can't choose its digest")));
    }
    // `sha256:abc` would name the image `sha256`, and look like an id ever after.
    if reference.familiar().starts_with("sha256:") {
        return Err(Error::usage(format!("`{text}` would be taken for an image's id"))
            .hint("choose another name than `sha256`"));
    }
    Ok(reference)
}

/// Tells whether `error` says that what was asked for doesn't exist.
pub(crate) fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Failure(failure) if failure.kind == FailureKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        let environment = Environment::from([("HOME", "/root")]);
        let read = |text| variable(text, &environment).ok().flatten();
        assert_eq!(read("A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(read("HOME"), Some(("HOME".into(), "/root".into())));
        assert_eq!(read("MISSING"), None);
        assert!(variable("=x", &environment).is_err());
        assert_eq!(label("a").ok(), Some(("a".into(), String::new())));
        assert!(label("=a").is_err());
    }

    #[test]
    fn a_file_of_variables_has_names_only() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(folder.path().join("env"), text).unwrap();
            env_lines(&folder.path().join("env")).ok()
        };
        assert_eq!(read("# a b\n\nA=x y\n  B\n"), Some(vec!["A=x y".to_owned(), "B".to_owned()]));
        assert_eq!(read("bad line\n"), None);
        assert_eq!(read("=x\n"), None);
    }

    #[test]
    fn hosts_need_a_name_and_an_address() {
        for (text, expected) in [
            ("db:10.0.0.2", Some(("db", "10.0.0.2"))),
            ("db=10.0.0.2", Some(("db", "10.0.0.2"))),
            ("db:::1", Some(("db", "::1"))),
            ("db:[fe80::1]", Some(("db", "fe80::1"))),
            ("db", None),
            ("db:nowhere", None),
            (":10.0.0.1", None),
            ("a\nb:10.0.0.1", None),
            ("db:host-gateway", None),
        ] {
            let found = host(text).ok();
            let found = found.as_ref().map(|(name, address)| (name.as_str(), address.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_new_name_is_not_taken_for_an_id() {
        assert!(new_name("sha256:abc").is_err() && new_name("sha256").is_err());
        assert!(new_name("me/sha256:abc").is_ok());
    }

    #[test]
    fn an_upper_case_name_gets_a_hint() {
        let Err(Error::Failure(failure)) = reference("MyApp:1") else { panic!("upper case is refused") };
        assert!(failure.hints.iter().any(|hint| hint.contains("myapp")), "{failure:?}");
    }
}
