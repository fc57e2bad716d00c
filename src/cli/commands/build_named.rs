//! `--build-context NAME=VALUE`.

use std::path::{Path, PathBuf};

use crate::api::{Layout, NamedContext, NamedSource, RemoteSource, without_password};
use crate::cli::error::Error;

/// Reads all of them.
pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<NamedContext>, Error> {
    texts.iter().map(|text| parse(text)).collect()
}

fn parse(text: &str) -> Result<NamedContext, Error> {
    let split = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let Some((name, value)) = split else {
        return Err(Error::usage(format!("invalid `--build-context {}`", without_password(text)))
            .hint("write it as NAME=VALUE, such as `src=../src` or `alpine=docker-image://alpine:3.20`"));
    };
    Ok(NamedContext { name: name.to_owned(), source: source(name, value)? })
}

fn source(name: &str, value: &str) -> Result<NamedSource, Error> {
    if let Some(image) = value.strip_prefix("docker-image://") {
        let reference = image.parse().map_err(|error| {
            Error::usage(format!("invalid image `{image}` of the context `{name}`: {error}"))
        })?;
        return Ok(NamedSource::Image(reference));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return layout_of(name, layout).map(NamedSource::Layout);
    }
    if let Some(scheme) = ["target:", "input:"].into_iter().find(|scheme| value.starts_with(scheme)) {
        let message = format!("the context `{name}` is a `{scheme}`, which only `docker buildx bake` has");
        return Err(
            Error::usage(message).hint("build the other target first, and name its image or its output")
        );
    }
    if !Path::new(value).exists()
        && let Some(remote) = RemoteSource::parse(value)
    {
        let wrong = |message| {
            Error::usage(format!("cannot use the context `{name}={}`: {message}", without_password(value)))
        };
        return remote.map(NamedSource::Remote).map_err(wrong);
    }
    directory(name, value).map(NamedSource::Directory)
}

fn directory(name: &str, value: &str) -> Result<PathBuf, Error> {
    let failed = |reason: String| Error::usage(format!("cannot use the context `{name}={value}`: {reason}"));
    let path = std::path::absolute(value).map_err(|error| failed(error.to_string()))?;
    match std::fs::metadata(&path) {
        Ok(data) if data.is_dir() => Ok(path),
        Ok(_) => Err(failed("it is not a directory".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let error = failed("there is no such directory".to_owned());
            Err(match value.parse::<crate::oci::Reference>() {
                Ok(_) => error.hint(format!("for an image: `{name}=docker-image://{value}`")),
                Err(_) => error,
            })
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// `PATH[:TAG][@DIGEST]`.
fn layout_of(name: &str, text: &str) -> Result<Layout, Error> {
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if digest.contains(':') => (rest, Some(digest)),
        _ => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let folder = directory(name, path)?;
    Ok(Layout { folder, image: digest.or(tag).map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        match parse(text) {
            Err(Error::Failure(failure)) => format!("{} | {}", failure.message, failure.hints.join(" | ")),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_of_named_context_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(
            parse(&format!("src={path}")).unwrap().source,
            NamedSource::Directory(folder.path().to_owned())
        );
        assert!(matches!(parse("a=docker-image://b:1").unwrap().source, NamedSource::Image(_)));
        assert!(matches!(parse("a=https://x/y.git#z").unwrap().source, NamedSource::Remote(_)));
        for (text, image) in [("", None), (":v1", Some("v1")), ("@sha256:00", Some("sha256:00"))] {
            let NamedSource::Layout(layout) = parse(&format!("a=oci-layout://{path}{text}")).unwrap().source
            else {
                panic!("{text}")
            };
            assert_eq!((layout.folder.as_path(), layout.image.as_deref()), (folder.path(), image));
        }
    }

    #[test]
    fn wrong_named_contexts_say_what_is_wrong() {
        assert!(message("x").starts_with("invalid `--build-context x`"));
        assert!(message("x=target:y").starts_with("the context `x` is a `target:`, which only"));
        assert_eq!(
            message("x=alpine:3"),
            "cannot use the context `x=alpine:3`: there is no such directory | for an image: `x=docker-image://alpine:3`"
        );
        assert!(message("x=docker-image://A B").contains("invalid image `A B`"));
        assert!(message("x=https://u:p@h/y.git?q=1").contains("https://u:***@h/y.git"));
    }
}
