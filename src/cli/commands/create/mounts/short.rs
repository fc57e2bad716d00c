//! The short form of a mount: `-v [SOURCE:]TARGET[:OPTIONS]`.

use super::{NO_CACHES, NO_SELINUX, Read, absolute, check_target};
use crate::api::{MountKind, MountRequest, Propagation, Recursion};
use crate::cli::error::Error;

const FORMS: &str = "write it as `/host/path:/path`, `name:/path` or `/path`";

/// What the third field says.
#[derive(Default)]
struct Words {
    readonly: bool,
    nocopy: bool,
    propagation: Option<Propagation>,
    notes: Vec<&'static str>,
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`.
pub(super) fn volume(text: &str) -> Result<Read, Error> {
    let bad = |why: &str| Error::usage(format!("invalid volume `{text}`: {why}")).hint(FORMS);
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("too many colons")),
    };
    check_target("volume", text, target).map_err(|error| error.hint(FORMS))?;
    let words = words(options).map_err(|why| bad(&why))?;
    if source == Some("") {
        return Err(bad("its source is empty"));
    }
    let path = source.map(host_path).transpose()?.flatten();
    if path.is_some() && words.nocopy {
        return Err(bad("`nocopy` is for volumes: nothing is copied to a host path"));
    }
    if path.is_none() && words.propagation.is_some() {
        return Err(bad("propagation is for host paths"));
    }
    let kind = match (path, source) {
        (Some(source), _) => MountKind::Bind {
            source,
            create: true,
            recursion: Recursion::default(),
            propagation: words.propagation.unwrap_or_default(),
        },
        (None, name) => MountKind::Volume {
            name: name.map(str::to_owned),
            nocopy: words.nocopy,
            subpath: None,
            driver: None,
            labels: Vec::new(),
            options: Vec::new(),
        },
    };
    let mount = MountRequest { kind, target: target.to_owned(), readonly: words.readonly, is_long: false };
    Ok(Read { mount, notes: words.notes })
}

/// Reads the options; the error is what is wrong with them.
fn words(options: &str) -> Result<Words, String> {
    let mut words = Words::default();
    let words_of = || options.split(',').filter(|word| !word.is_empty());
    if let (true, Some(_)) = (words_of().any(|word| word == "ro"), words_of().find(|word| *word == "rw")) {
        return Err("`ro` and `rw` at once".to_owned());
    }
    for word in words_of() {
        match word {
            "ro" => words.readonly = true,
            "rw" => words.readonly = false,
            "nocopy" => words.nocopy = true,
            "z" | "Z" => words.notes.push(NO_SELINUX),
            "consistent" | "cached" | "delegated" => words.notes.push(NO_CACHES),
            word => {
                words.propagation =
                    Some(Propagation::parse(word).ok_or_else(|| format!("unknown option `{word}`"))?)
            }
        }
    }
    Ok(words)
}

/// The host path that `source` is, if it is one: a relative one begins with a dot, a word is a volume's name.
fn host_path(source: &str) -> Result<Option<String>, Error> {
    if source.starts_with('/') {
        return Ok(Some(source.to_owned()));
    }
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        return absolute(source).map(Some);
    }
    match source.contains('/') {
        true => Err(Error::usage(format!("`{source}` is not a volume name"))
            .hint(format!("a host path relative to this directory is written `./{source}`"))),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let source = |kind| match kind {
            MountKind::Bind { source, .. } => Some(source),
            MountKind::Volume { name, .. } => name,
            _ => None,
        };
        let bind = |text| {
            volume(text).ok().map(|Read { mount, .. }| (source(mount.kind), mount.target, mount.readonly))
        };
        assert_eq!(bind("/data"), Some((None, "/data".into(), false)));
        assert_eq!(bind("name:/data"), Some((Some("name".into()), "/data".into(), false)));
        assert_eq!(bind("/host:/data:ro"), Some((Some("/host".into()), "/data".into(), true)));
        assert_eq!(bind("/host:/data:ro,rslave"), Some((Some("/host".into()), "/data".into(), true)));
        assert_eq!(bind("name:/data:nocopy,rw"), Some((Some("name".into()), "/data".into(), false)));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(bind("./x:/data"), Some((here.to_str().map(str::to_owned), "/data".into(), false)));
        for text in [
            "",
            "data",
            "/a:b",
            "/a:/",
            "/a:/b:zz",
            "/a:/b:ro,rw",
            "/a:/b:ro:x",
            ":/b",
            "a/b:/x",
            "/a:/b:nocopy",
            "name:/b:rshared",
        ] {
            assert_eq!(bind(text), None, "{text}");
        }
    }

    #[test]
    fn what_changes_nothing_is_said() {
        let notes = |text| volume(text).unwrap().notes;
        assert_eq!(notes("/a:/b:z,ro"), [NO_SELINUX]);
        assert_eq!(notes("/a:/b:cached"), [NO_CACHES]);
        assert_eq!(notes("/a:/b:ro"), [""; 0]);
    }

    #[test]
    fn a_relative_path_without_a_dot_is_told_how_to_be_written() {
        let Err(Error::Failure(failure)) = volume("a/b:/x") else { panic!("it is refused") };
        assert!(failure.message.contains("`a/b` is not a volume name"), "{failure:?}");
        assert!(failure.hints.iter().any(|hint| hint.contains("`./a/b`")), "{failure:?}");
    }
}
