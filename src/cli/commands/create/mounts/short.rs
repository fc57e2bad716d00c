//! The short form of a mount: `-v [SOURCE:]TARGET[:OPTIONS]`.

use crate::api::{MountKind, MountRequest};
use crate::cli::error::Error;

/// Reads `[SOURCE:]TARGET[:OPTIONS]`.
pub(super) fn volume(text: &str) -> Result<MountRequest, Error> {
    let bad = |why: &str| {
        Error::usage(format!("invalid volume `{text}`: {why}"))
            .hint("write it as `/host/path:/path`, `name:/path` or `/path`")
    };
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("too many colons")),
    };
    if !target.starts_with('/') {
        return Err(bad("the path in the container must be absolute"));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(bad("it can't be the root directory"));
    }
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => {
                return Err(Error::usage(format!(
                    "the volume option `{other}` in `{text}` is not supported yet"
                )));
            }
        }
    }
    let kind = match source.map(host_path).transpose()? {
        Some(source) if source.starts_with('/') => MountKind::Bind { source },
        name => MountKind::Volume { name },
    };
    Ok(MountRequest { kind, target: target.to_owned(), readonly })
}

/// A relative path is one from the working directory; a word without a slash is a volume's name.
fn host_path(source: &str) -> Result<String, Error> {
    if source.is_empty() {
        return Err(Error::usage("a volume's source is empty"));
    }
    if !(source == "." || source == ".." || source.starts_with("./") || source.starts_with("../")) {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(source)
        .map_err(|error| Error::usage(format!("cannot use `{source}`: {error}")))?;
    let path = path.to_str().map(str::to_owned);
    path.ok_or_else(|| Error::usage(format!("the path of `{source}` is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let source = |kind| match kind {
            MountKind::Bind { source } => Some(source),
            MountKind::Volume { name } => name,
        };
        let bind = |text| volume(text).ok().map(|mount| (source(mount.kind), mount.target, mount.readonly));
        assert_eq!(bind("/data"), Some((None, "/data".into(), false)));
        assert_eq!(bind("name:/data"), Some((Some("name".into()), "/data".into(), false)));
        assert_eq!(bind("/host:/data:ro"), Some((Some("/host".into()), "/data".into(), true)));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(bind("./x:/data"), Some((here.to_str().map(str::to_owned), "/data".into(), false)));
        for text in ["", "data", "/a:b", "/a:/", "/a:/b:zz", "/a:/b:ro:x", ":/b"] {
            assert_eq!(bind(text), None, "{text}");
        }
    }
}
