//! The Dockerfile of a build and the context beside it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_grammar::ast::{Dockerfile, Span};
use kiln_grammar::diagnostic::{Diagnostic, Severity};
use kiln_grammar::source::Source;

use super::build::Build;
use super::contexts::Folder;
use crate::api::{
    BuildRequest, ContextSource, DockerfileSource, Excerpt, Failure, FailureKind, HttpSource, RemoteSource,
    without_password,
};
use crate::build::context::{Context, Ignore};
use crate::build::ops::REMOTE_FILE;

/// A Dockerfile larger than this is no Dockerfile.
const DOCKERFILE_BYTES: u64 = 16 << 20;

/// The build-arg that takes the place of `# check=`.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Lines shown around a failing instruction of one line, and of several.
const EXCERPT_LINES: (usize, usize) = (4, 2);

/// A Dockerfile's text, its name in messages, and the context that it copies from.
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) text: Arc<str>,
    pub(super) context: Arc<Context>,
    /// What the context hides.
    pub(super) ignore: Ignore,
    /// Where the context came from.
    pub(super) folder: Folder,
}

/// Reads the Dockerfile and opens the context.
pub(super) fn read(build: &Build<'_>) -> Result<Recipe, Failure> {
    let folder = build.main_folder()?;
    let Found { name, text, path } = match (&build.request.dockerfile, &folder.file) {
        (DockerfileSource::Text(text), _) => Found::text("Dockerfile", text.clone().into_bytes()),
        (DockerfileSource::Remote(address), _) => remote(build, address)?,
        (DockerfileSource::Path(path), Some(file)) if !path.is_absolute() => {
            Found::text("Dockerfile", read_file(file)?)
        }
        (DockerfileSource::Path(path), _) if folder.is_own || is_local(build, path) => {
            let (name, text, path) = source(&build.request.dockerfile, &folder.path)?;
            Found { name, text, path }
        }
        (DockerfileSource::Path(path), _) => inside(&folder.path, path)?,
    };
    let text = String::from_utf8(text).map_err(|error| not_text(&name, error.as_bytes()))?;
    let (context, ignore) = build.open(&folder, path.as_deref())?;
    Ok(Recipe { name, text: text.into(), context, ignore, folder })
}

/// The parser finds the byte that is no text; it is shown in what can be read of the line.
fn not_text(name: &str, bytes: &[u8]) -> Failure {
    let diagnostics = kiln_grammar::parse(name, bytes).err().unwrap_or_default();
    mistakes(name, &String::from_utf8_lossy(bytes), &diagnostics)
}

/// The Dockerfile's shown name, its bytes, and its path when it has one.
pub(super) fn source(
    dockerfile: &DockerfileSource,
    folder: &Path,
) -> Result<(String, Vec<u8>, Option<PathBuf>), Failure> {
    match dockerfile {
        DockerfileSource::Text(text) => Ok(("Dockerfile".to_owned(), text.clone().into_bytes(), None)),
        DockerfileSource::Path(path) => Ok((shown_name(path, folder), read_file(path)?, Some(path.clone()))),
        DockerfileSource::Remote(source) => {
            let message = format!("`{}` is on another machine", without_password(&source.url));
            Err(Failure::new(FailureKind::Invalid, message).hint("download it first"))
        }
    }
}

/// What takes the place of `# check=`, if the user gave that.
pub(super) fn check_wishes(request: &BuildRequest) -> Option<&str> {
    let last = request.build_args.iter().rev().find(|(name, _)| name == CHECK_ARG);
    last.map(|(_, value)| value.as_str())
}

/// A Dockerfile that was found.
struct Found {
    name: String,
    text: Vec<u8>,
    /// Where it is, if an ignore file may stand beside it.
    path: Option<PathBuf>,
}

impl Found {
    fn text(name: &str, text: Vec<u8>) -> Self {
        Self { name: name.to_owned(), text, path: None }
    }
}

/// Tells whether `path` is a file of this machine although the context isn't: only an absolute one, as in docker, and
/// never with an archive, whose names may begin with a slash.
fn is_local(build: &Build<'_>, path: &Path) -> bool {
    path.is_absolute() && matches!(build.request.context, ContextSource::Remote(_))
}

/// A Dockerfile from another machine.
fn remote(build: &Build<'_>, source: &HttpSource) -> Result<Found, Failure> {
    let outcome = build.bring(&RemoteSource::Http(source.clone()), "load the Dockerfile")?;
    let layer = outcome.chain.last().ok_or_else(|| Failure::new(FailureKind::System, "no layer came"))?;
    let text = read_file(&build.store.snapshot_dir(layer).join(REMOTE_FILE))?;
    Ok(Found::text(&source.file_name(), text))
}

/// The Dockerfile of an archive or a repository: a path below its folder, whose links lead nowhere else.
fn inside(folder: &Path, path: &Path) -> Result<Found, Failure> {
    let parts = path.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    let inner: PathBuf = parts.collect();
    let invalid = |error: &(dyn std::error::Error + 'static)| {
        let mut failure = Failure::from_error(FailureKind::Invalid, error);
        failure.causes.insert(0, std::mem::take(&mut failure.message));
        failure.message = format!("cannot read the Dockerfile `{}`", inner.display());
        failure
    };
    let context = Context::open(folder, Ignore::default(), None).map_err(|error| invalid(&error))?;
    let other = (inner == Path::new("Dockerfile")).then(|| PathBuf::from("dockerfile"));
    for name in [inner.clone()].into_iter().chain(other) {
        let text = context.read(&name, DOCKERFILE_BYTES + 1).map_err(|error| invalid(&error))?;
        if let Some(text) = text {
            return Ok(Found {
                name: name.display().to_string(),
                text: bounded(text, &name)?,
                path: Some(folder.join(name)),
            });
        }
    }
    let message = format!("there is no Dockerfile `{}` in the build context", inner.display());
    let failure = Failure::new(FailureKind::NotFound, message);
    Err(match similar(&folder.join(&inner)) {
        Some(name) => failure.hint(format!("build with `-f {}`", inner.with_file_name(name).display())),
        None => failure.hint("name it with `-f FILE`: a path inside the context"),
    })
}

impl Recipe {
    /// Parses the text; all mistakes come back at once.
    pub(super) fn parse(&self, request: &BuildRequest) -> Result<Dockerfile, Failure> {
        kiln_grammar::parse_checked(&self.name, self.text.as_bytes(), check_wishes(request))
            .map_err(|diagnostics| self.failure(&diagnostics))
    }

    /// Renders one mistake with its place.
    pub(super) fn render(&self, diagnostic: &Diagnostic) -> String {
        diagnostic.render(&Source { name: &self.name, text: &self.text })
    }

    /// Makes a failure of mistakes.
    pub(super) fn failure(&self, diagnostics: &[Diagnostic]) -> Failure {
        mistakes(&self.name, &self.text, diagnostics)
    }

    /// Adds the lines of the instruction that failed.
    pub(super) fn explain(&self, mut failure: Failure, span: Span) -> Failure {
        if failure.excerpt.is_none() {
            failure.excerpt = Some(self.excerpt(span));
        }
        failure
    }

    fn excerpt(&self, span: Span) -> Excerpt {
        let line_of = |offset: usize| self.text[..offset.min(self.text.len())].matches('\n').count() + 1;
        let first = line_of(span.start);
        let last = line_of(span.end.saturating_sub(1).max(span.start));
        let around = if first == last { EXCERPT_LINES.0 } else { EXCERPT_LINES.1 };
        let shown = first.saturating_sub(around).max(1)..=last.saturating_add(around);
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let lines = lines.filter(|(number, _)| shown.contains(number));
        let marked = |number: usize| (first..=last).contains(&number);
        let lines = lines.map(|(number, line)| (number, line.to_owned(), marked(number))).collect();
        Excerpt { file: self.name.clone(), lines }
    }
}

/// Makes a failure of the mistakes in the file `name`.
pub(super) fn mistakes(name: &str, text: &str, diagnostics: &[Diagnostic]) -> Failure {
    let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
    let message = match errors.collect::<Vec<_>>()[..] {
        [one] => format!("`{name}` has a mistake: {}", one.message),
        ref many => format!("`{name}` has {} mistakes", many.len()),
    };
    let mut failure = Failure::new(FailureKind::Invalid, message);
    let source = Source { name, text };
    failure.diagnostics = diagnostics.iter().map(|diagnostic| diagnostic.render(&source)).collect();
    failure
}

fn shown_name(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: &io::Error| {
        let kind = if error.kind() == io::ErrorKind::NotFound {
            FailureKind::NotFound
        } else {
            FailureKind::Invalid
        };
        let mut failure = Failure::new(kind, format!("cannot read the Dockerfile `{}`", path.display()));
        failure.causes.push(error.to_string());
        failure
    };
    let metadata = fs::metadata(path).map_err(|error| missing_hint(failed(&error), path))?;
    if !metadata.is_file() {
        let message = format!("the Dockerfile `{}` is not a regular file", path.display());
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    // One byte more: then the end of the file needs no second buffer.
    let room = metadata.len().min(DOCKERFILE_BYTES) + 1;
    let mut text = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(DOCKERFILE_BYTES + 1).read_to_end(&mut text).map_err(|error| failed(&error))?;
    bounded(text, path)
}

fn bounded(text: Vec<u8>, path: &Path) -> Result<Vec<u8>, Failure> {
    if text.len() as u64 > DOCKERFILE_BYTES {
        let message =
            format!("the Dockerfile `{}` is larger than {} MiB", path.display(), DOCKERFILE_BYTES >> 20);
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    Ok(text)
}

/// Names a file beside the missing one that was perhaps meant.
fn missing_hint(failure: Failure, path: &Path) -> Failure {
    match similar(path) {
        Some(name) => {
            let near = path.with_file_name(&name);
            failure.hint(format!("`{name}` is there: build with `-f {}`", near.display()))
        }
        None => failure.hint("name it with `-f FILE`"),
    }
}

/// The name of a file beside `path` that looks like a Dockerfile.
fn similar(path: &Path) -> Option<String> {
    let entries = fs::read_dir(path.parent()?).ok()?.take(10_000);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let wanted = path.file_name()?.to_string_lossy().to_lowercase();
    let mut close: Vec<String> = names
        .filter(|name| {
            let lower = name.to_lowercase();
            !lower.ends_with(".dockerignore")
                && (lower == wanted || lower.contains("dockerfile") || lower == "containerfile")
        })
        .collect();
    close.sort();
    close.into_iter().next()
}
