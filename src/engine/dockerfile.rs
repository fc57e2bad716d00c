//! The Dockerfile of a build and the context beside it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::{Scratch, StatCache, Store};
use kiln_grammar::ast::{Dockerfile, Span};
use kiln_grammar::diagnostic::{Diagnostic, Severity};
use kiln_grammar::source::Source;

use crate::api::{BuildRequest, ContextSource, DockerfileSource, Excerpt, Failure, FailureKind};
use crate::build::context::{self, Context, Ignore};

/// A Dockerfile larger than this is no Dockerfile.
const DOCKERFILE_BYTES: u64 = 16 << 20;

/// The build-arg that takes the place of `# check=`.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Lines shown around a failing instruction of one line, and of several.
const EXCERPT_LINES: (usize, usize) = (4, 2);

/// A Dockerfile's text, its name in messages, and the context that it copies from.
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) context: Arc<Context>,
    /// What the context hides.
    pub(super) ignore: Ignore,
    /// Where a context that came as an archive was unpacked; removed with the build.
    _unpacked: Option<Scratch>,
}

/// Reads the Dockerfile and opens the context.
pub(super) fn read(request: &BuildRequest, store: &Store) -> Result<Recipe, Failure> {
    let mut unpacked = None;
    let folder = match &request.context {
        ContextSource::Directory(path) => check_folder(path)?,
        ContextSource::None => store.root().join("empty"),
        ContextSource::Tar(archive) => {
            let scratch =
                store.scratch_folder().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
            let archive = fs::File::open(archive)
                .map_err(|error| Failure::from_error(FailureKind::NotFound, &error))?;
            context::unpack(&archive, scratch.path())
                .map_err(|error| Failure::from_error(FailureKind::Corrupt, &error))?;
            unpacked.insert(scratch).path().to_path_buf()
        }
    };
    let mut dockerfile = request.dockerfile.clone();
    if let (DockerfileSource::Path(path), Some(_)) = (&mut dockerfile, &unpacked) {
        *path = inside(&folder, path);
    }
    let (name, text, path) = source(&dockerfile, &folder)?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::new(FailureKind::Invalid, format!("`{name}` is not UTF-8 text")))?;
    let mut ignore = context::ignore_for(path.as_deref(), &folder)
        .map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?;
    if let Some(inside) = below(&folder, store.root()) {
        // A build that copies its own store copies what it writes, and the secrets of other images.
        ignore
            .hide(inside.as_os_str().as_bytes())
            .map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?;
    }
    // An archive's folder is new each time: what stat says of it will never be asked again.
    let known = unpacked.is_none().then(|| StatCache::load(store, &folder));
    let context = Context::open(&folder, ignore.clone(), known)
        .map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?;
    Ok(Recipe { name, text, context: Arc::new(context), ignore, _unpacked: unpacked })
}

/// The Dockerfile's shown name, its bytes, and its path when it has one.
pub(super) fn source(
    dockerfile: &DockerfileSource,
    folder: &Path,
) -> Result<(String, Vec<u8>, Option<PathBuf>), Failure> {
    Ok(match dockerfile {
        DockerfileSource::Text(text) => ("Dockerfile".to_owned(), text.clone().into_bytes(), None),
        DockerfileSource::Path(path) => (shown_name(path, folder), read_file(path)?, Some(path.clone())),
    })
}

/// What takes the place of `# check=`, if the user gave that.
pub(super) fn check_wishes(request: &BuildRequest) -> Option<&str> {
    let last = request.build_args.iter().rev().find(|(name, _)| name == CHECK_ARG);
    last.map(|(_, value)| value.as_str())
}

/// Where `path` is below `folder`.
fn below(folder: &Path, path: &Path) -> Option<PathBuf> {
    let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
    let inside = path.strip_prefix(folder).ok()?;
    (inside != Path::new("")).then(|| inside.to_owned())
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

fn check_folder(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_path_buf()),
        Ok(_) => Err(Failure::new(
            FailureKind::Invalid,
            format!("build context `{}` is not a directory", path.display()),
        )
        .hint("name the directory that holds the files, and the Dockerfile by `-f`")),
        Err(error) => {
            let failure = Failure::from_error(FailureKind::NotFound, &error);
            Err(Failure {
                message: format!("cannot open the build context `{}`", path.display()),
                causes: vec![failure.message],
                ..Failure::new(FailureKind::NotFound, "")
            })
        }
    }
}

/// The Dockerfile of an archive: a path below its folder, links not followed out of it.
fn inside(folder: &Path, path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    let inner: PathBuf = parts.collect();
    match fs::canonicalize(folder.join(&inner)) {
        Ok(real) if fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder)) => real,
        _ => folder.join(inner),
    }
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
    if metadata.len() > DOCKERFILE_BYTES {
        let message =
            format!("the Dockerfile `{}` is larger than {} MiB", path.display(), DOCKERFILE_BYTES >> 20);
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    fs::read(path).map_err(|error| failed(&error))
}

/// Names a file beside the missing one that was perhaps meant.
fn missing_hint(failure: Failure, path: &Path) -> Failure {
    let folder = path.parent().unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return failure };
    let names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let close = names.iter().find(|name| {
        let lower = name.to_lowercase();
        lower == wanted || (lower.contains("dockerfile") || lower == "containerfile")
    });
    match close {
        Some(name) => {
            failure.hint(format!("`{name}` is there: build with `-f {}`", folder.join(name).display()))
        }
        None => failure.hint("name it with `-f FILE`"),
    }
}
