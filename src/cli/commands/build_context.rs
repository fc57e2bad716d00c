//! Where a build's context and Dockerfile are: a directory, an address, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::spool::spool;
use crate::api::{ContextSource, DockerfileSource, HttpSource, RemoteSource, without_password};
use crate::cli::error::Error;

/// A Dockerfile on standard input may be this long; a longer one is something else.
pub(super) const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;
/// A tar header: enough to tell an archive from a text.
const SNIFF_BYTES: usize = 512;

/// What a build starts from.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) context: ContextSource,
    pub(crate) dockerfile: DockerfileSource,
    /// Holds the context's path open.
    pub(crate) spooled: Option<File>,
}

/// Finds the context that `paths` (the arguments) name, and the Dockerfile of `-f`.
pub(crate) fn find(paths: &[String], file: Option<&Path>) -> Result<Found, Error> {
    match paths {
        [] => Err(Error::usage("the context is missing").hint("did you forget the `.` at the end?")),
        [path] if path == "-" => from_stdin(file),
        [path] if !Path::new(path).exists() => match RemoteSource::parse(path) {
            Some(source) => from_remote(path, source, file),
            None => from_directory(path, file),
        },
        [path] => from_directory(path, file),
        [first, others @ ..] => Err(Error::usage(format!(
            "only one context can be built, and there are {}: `{first}`, `{}`",
            paths.len(),
            others.join("`, `")
        ))
        .hint("flags with a value are written `--flag=value` or `--flag value`; a value with blanks needs quotes")),
    }
}

/// A context on another machine; `-f` is inside it, unless it is absolute, an address, or standard input.
fn from_remote(
    path: &str,
    source: Result<RemoteSource, String>,
    file: Option<&Path>,
) -> Result<Found, Error> {
    let shown = without_password(path);
    let source =
        source.map_err(|message| Error::usage(format!("cannot use the context `{shown}`: {message}")))?;
    let dockerfile = match file {
        None => DockerfileSource::Path("Dockerfile".into()),
        Some(name) if name == Path::new("-") => DockerfileSource::Text(dockerfile_from_stdin()?),
        Some(name) => match address(name)? {
            Some(source) => DockerfileSource::Remote(source),
            None if name.is_absolute() => DockerfileSource::Path(named(name, Path::new("/"))?),
            None => DockerfileSource::Path(name.to_owned()),
        },
    };
    Ok(Found { context: ContextSource::Remote(source), dockerfile, spooled: None })
}

/// The address that `-f` is, if it is one.
fn address(name: &Path) -> Result<Option<HttpSource>, Error> {
    let Some(text) = name.to_str().filter(|_| !name.exists()) else { return Ok(None) };
    match RemoteSource::parse(text) {
        Some(Ok(RemoteSource::Http(source))) => Ok(Some(source)),
        Some(_) => {
            let message = format!("`-f` can't be a repository: `{}`", without_password(text));
            Err(Error::usage(message).hint("name the repository as the context, and its Dockerfile by `-f`"))
        }
        None => Ok(None),
    }
}

fn from_directory(path: &str, file: Option<&Path>) -> Result<Found, Error> {
    let directory = absolute(Path::new(path))?;
    match std::fs::metadata(&directory) {
        Ok(data) if data.is_dir() => {}
        Ok(_) => {
            return Err(Error::usage(format!("the context `{path}` is not a directory"))
                .hint(format!("to build with this Dockerfile: `kiln build -f {path} .`")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::usage(format!("the context `{path}` doesn't exist")));
        }
        Err(error) => return Err(Error::usage(format!("cannot read the context `{path}`: {error}"))),
    }
    let dockerfile = match file {
        Some(name) if name == Path::new("-") => DockerfileSource::Text(dockerfile_from_stdin()?),
        Some(name) => match address(name)? {
            Some(source) => DockerfileSource::Remote(source),
            None => DockerfileSource::Path(named(name, &directory)?),
        },
        None => DockerfileSource::Path(default(&directory, path)?),
    };
    Ok(Found { context: ContextSource::Directory(directory), dockerfile, spooled: None })
}

/// The file of `-f`: relative to the working directory, as in docker.
fn named(name: &Path, directory: &Path) -> Result<PathBuf, Error> {
    let path = absolute(name)?;
    if path.is_file() {
        return Ok(path);
    }
    let shown = name.display();
    if path.exists() && !path.is_dir() {
        // A pipe, as in `-f <(…)`.
        return Ok(path);
    }
    if path.is_dir() {
        return Err(Error::usage(format!("the Dockerfile `{shown}` is a directory")));
    }
    let error = Error::usage(format!("the Dockerfile `{shown}` doesn't exist"));
    let inside = directory.join(name);
    if inside.is_file() {
        return Err(
            error.hint(format!("`-f` is relative to the working directory: `-f {}`", inside.display()))
        );
    }
    Err(match similar(path.parent().unwrap_or(directory), name.file_name().and_then(|name| name.to_str())) {
        Some(near) => error.hint(format!("there is `{near}` beside it")),
        None => error,
    })
}

/// `Dockerfile`, or in lower case as some write it.
fn default(directory: &Path, shown: &str) -> Result<PathBuf, Error> {
    for name in ["Dockerfile", "dockerfile"] {
        let path = directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let error = Error::usage(format!("there is no Dockerfile in `{shown}`"));
    Err(match similar(directory, Some("Dockerfile")) {
        Some(near) => {
            let path = Path::new(shown).join(near);
            let path = path.strip_prefix(".").unwrap_or(&path);
            error.hint(format!("to use `{}`: `kiln build -f {} {shown}`", path.display(), path.display()))
        }
        None => error.hint("name it with `-f FILE`"),
    })
}

/// A file of `directory` whose name is like `wanted`: other case, an extension, a typing mistake, Containerfile.
fn similar(directory: &Path, wanted: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    let entries = std::fs::read_dir(directory).ok()?.take(10_000).flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.retain(|name| !name.ends_with(".dockerignore"));
    let lower = wanted.to_lowercase();
    let alike = |name: &&String| {
        let name = name.to_lowercase();
        name.starts_with(&lower) || name.ends_with(&format!(".{lower}")) || name == "containerfile"
    };
    if let Some(name) = names.iter().find(alike) {
        return Some(name.clone());
    }
    crate::cli::suggest::closest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

/// `kiln build -`: an archive, or a Dockerfile without a context.
fn from_stdin(file: Option<&Path>) -> Result<Found, Error> {
    if file == Some(Path::new("-")) {
        return Err(Error::usage("context and Dockerfile can't both come from standard input"));
    }
    if io::stdin().is_terminal() {
        return Err(Error::usage("the context `-` is read from standard input, and that is a terminal")
            .hint("redirect it: `kiln build - < context.tar`, or use `.` for this directory"));
    }
    let failed = |error| Error::usage(format!("cannot read standard input: {error}"));
    let mut stdin = io::stdin().lock();
    let mut first = Vec::with_capacity(SNIFF_BYTES);
    (&mut stdin).take(SNIFF_BYTES as u64).read_to_end(&mut first).map_err(failed)?;
    match sniff(&first) {
        Sniffed::Archive => {
            let folder = std::env::temp_dir();
            let (spooled, path) = spool(folder, &first, &mut stdin).map_err(failed)?;
            let name = file.unwrap_or(Path::new("Dockerfile"));
            Ok(Found {
                context: ContextSource::Tar(path),
                dockerfile: DockerfileSource::Path(name.to_owned()),
                spooled: Some(spooled),
            })
        }
        Sniffed::Text if file.is_some() => {
            Err(Error::usage("`-f` with the context `-` needs a tar archive on standard input")
                .hint("standard input is not an archive"))
        }
        Sniffed::Text => {
            let text = text(first, &mut stdin)?;
            Ok(Found {
                context: ContextSource::None,
                dockerfile: DockerfileSource::Text(text),
                spooled: None,
            })
        }
    }
}

fn dockerfile_from_stdin() -> Result<String, Error> {
    text(Vec::new(), &mut io::stdin().lock())
}

/// Reads a Dockerfile from standard input.
fn text(mut bytes: Vec<u8>, rest: &mut dyn Read) -> Result<String, Error> {
    let left = MAX_DOCKERFILE_BYTES + 1 - bytes.len() as u64;
    rest.take(left)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::usage(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        return Err(Error::usage("the Dockerfile on standard input is longer than 16 MiB"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::usage("standard input is neither a tar archive nor a Dockerfile in UTF-8"))
}

/// What standard input begins with.
#[derive(Debug, PartialEq, Eq)]
enum Sniffed {
    Archive,
    Text,
}

fn sniff(first: &[u8]) -> Sniffed {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
    let packed = [GZIP, ZSTD, b"BZh", XZ].iter().any(|magic| first.starts_with(magic));
    if packed || is_tar(first) { Sniffed::Archive } else { Sniffed::Text }
}

/// Tells whether `first` is a tar header: its checksum is right. Two empty blocks are an empty archive.
fn is_tar(first: &[u8]) -> bool {
    if first.len() < SNIFF_BYTES {
        return false;
    }
    let field = &first[148..156];
    let written = std::str::from_utf8(field).ok().map(|text| text.trim_matches(['\0', ' ']));
    let written = written.and_then(|text| u64::from_str_radix(text, 8).ok());
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    // The checksum counts its own field as blanks.
    let counted = sum(&first[..148]) + 8 * u64::from(b' ') + sum(&first[156..SNIFF_BYTES]);
    written == Some(counted) || first.iter().all(|&byte| byte == 0)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| Error::usage(format!("cannot use the path `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Found, Error>) -> String {
        match result {
            Err(Error::Failure(failure)) => format!("{} | {}", failure.message, failure.hints.join(" | ")),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn archives_are_told_from_texts() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_cksum();
        builder.append_data(&mut header, "a", &b""[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let text = "FROM debian\n".repeat(100);
        for (bytes, expected) in [
            (tar.as_slice(), Sniffed::Archive),
            (&[0x1f, 0x8b, 8][..], Sniffed::Archive),
            (&[0x28, 0xb5, 0x2f, 0xfd][..], Sniffed::Archive),
            (b"BZh9", Sniffed::Archive),
            (b"\xfd7zXZ\0", Sniffed::Archive),
            (b"FROM x", Sniffed::Text),
            (text.as_bytes(), Sniffed::Text),
            (b"", Sniffed::Text),
        ] {
            assert_eq!(sniff(bytes), expected, "{:?}", &bytes[..bytes.len().min(8)]);
        }
    }

    #[test]
    fn a_missing_context_or_dockerfile_gets_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        assert_eq!(message(find(&[], None)), "the context is missing | did you forget the `.` at the end?");
        assert_eq!(
            message(find(&[format!("{path}/no")], None)),
            format!("the context `{path}/no` doesn't exist | ")
        );
        let empty = message(find(std::slice::from_ref(&path), None));
        assert_eq!(empty, format!("there is no Dockerfile in `{path}` | name it with `-f FILE`"));
        std::fs::write(folder.path().join("Dockerfile.dev"), "").unwrap();
        let near = message(find(std::slice::from_ref(&path), None));
        assert!(near.ends_with(&format!("`kiln build -f {path}/Dockerfile.dev {path}`")), "{near}");
        let file = message(find(&[format!("{path}/Dockerfile.dev")], None));
        assert!(file.contains("is not a directory"), "{file}");
        let inside = message(find(std::slice::from_ref(&path), Some(Path::new("Dockerfile.dev"))));
        assert!(inside.contains("relative to the working directory"), "{inside}");
        let wrong = message(find(&["https://me:pw@x/y.git?z=1".into()], None));
        assert_eq!(wrong, "cannot use the context `https://me:***@x/y.git?z=1`: unexpected query `z` | ");
        assert!(message(find(&[path, "x".into()], None)).contains("only one context"));
    }

    #[test]
    fn a_lower_case_dockerfile_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dockerfile");
        std::fs::write(&file, "").unwrap();
        let found = find(&[folder.path().to_str().unwrap().to_owned()], None).unwrap();
        assert_eq!(found.dockerfile, DockerfileSource::Path(file));
    }
}
