//! The contexts of a build: folders of files, wherever they come from.
//!
//! | context | becomes |
//! |---|---|
//! | a directory | itself, read in place |
//! | an archive, on standard input or downloaded | a scratch folder, gone with the build |
//! | a repository | a layer of the store, found again while its commit is the same |
//! | a download that is no archive | a Dockerfile without files |
//!
//! Ignore files count for all of them. Named contexts are brought when the graph turns out to read them, not before.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kiln_cache::{Scratch, StatCache};

use super::build::Build;
use super::dockerfile::Recipe;
use crate::api::{
    ContextModes, ContextSource, Event, Failure, FailureKind, NamedContext, NamedSource, RemoteSource,
    StepOutcome,
};
use crate::build::context::{self, Context, Ignore, Modes};
use crate::build::graph::{Graph, Input};
use crate::build::ops::{REMOTE_FILE, Remotes};
use crate::build::solve::{self, Outcome};

/// A git context keeps its `.git` when this build-arg is set.
const KEEP_GIT_DIR_ARG: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The time that the image carries: unix seconds, or `context` for the commit's or the newest file's.
pub(super) const EPOCH_ARG: &str = "SOURCE_DATE_EPOCH";

/// A folder of files to build from.
pub(super) struct Folder {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether it is the user's own, so that a Dockerfile may also be beside it.
    pub(super) is_own: bool,
    /// The file that came in place of a folder: a Dockerfile.
    pub(super) file: Option<PathBuf>,
    /// When its commit was made, in unix seconds.
    pub(super) commit_time: Option<i64>,
    /// Removed with the build.
    scratch: Option<Scratch>,
}

impl Folder {
    fn own(path: PathBuf) -> Self {
        Self { path, is_own: true, file: None, commit_time: None, scratch: None }
    }
}

impl Build<'_> {
    /// The folder of the build context itself.
    pub(super) fn main_folder(&self) -> Result<Folder, Failure> {
        match &self.request.context {
            ContextSource::Directory(path) => Ok(Folder::own(check_folder(path)?)),
            ContextSource::None => Ok(Folder::own(self.store.root().join("empty"))),
            ContextSource::Tar(archive) => {
                let archive = fs::File::open(archive)
                    .map_err(|error| Failure::from_error(FailureKind::NotFound, &error))?;
                self.unpack(&archive)
            }
            ContextSource::Remote(RemoteSource::Git(git)) => {
                let mut git = git.clone();
                if git.keep_git_dir.is_none() && self.switch(KEEP_GIT_DIR_ARG)? {
                    git.keep_git_dir = Some(true);
                }
                self.remote_folder(&RemoteSource::Git(git), "load the build context")
            }
            ContextSource::Remote(source) => self.remote_folder(source, "load the build context"),
        }
    }

    /// Whether a build-arg that switches something is on.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Failure> {
        let args = &self.request.build_args;
        let Some((_, value)) = args.iter().rev().find(|(key, _)| key == name) else { return Ok(false) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "" | "0" | "f" | "false" => Ok(false),
            _ => {
                let message = format!("invalid value `{value}` of build-arg `{name}`");
                Err(Failure::new(FailureKind::Invalid, message).hint("use 1 or 0"))
            }
        }
    }

    /// The time that the image carries: of the build-arg, else of the environment, else for `--reproducible` 1970.
    pub(super) fn epoch(&self, recipe: &Recipe) -> Result<Option<i64>, Failure> {
        let args = &self.request.build_args;
        let given = args.iter().rev().find(|(key, value)| key == EPOCH_ARG && !value.is_empty());
        match given.map(|(_, value)| value.as_str()) {
            None => {
                let of_environment = self.engine.settings().source_date_epoch;
                Ok(of_environment.or_else(|| self.request.reproducible.then_some(0)))
            }
            Some("context") => match recipe.folder.commit_time {
                Some(time) => Ok(Some(time)),
                None => {
                    recipe.context.newest().map_err(|error| Failure::from_error(FailureKind::Invalid, &error))
                }
            },
            Some(text) => match text.parse::<i64>() {
                Ok(seconds) if seconds >= 0 => Ok(Some(seconds)),
                _ => {
                    let message = format!(
                        "build-arg {EPOCH_ARG} is `{text}`: only unix seconds and `context` are supported"
                    );
                    Err(Failure::new(FailureKind::Invalid, message))
                }
            },
        }
    }

    fn unpack(&self, archive: &fs::File) -> Result<Folder, Failure> {
        let scratch =
            self.store.scratch_folder().map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        context::unpack(archive, scratch.path())
            .map_err(|error| Failure::from_error(FailureKind::Corrupt, &error))?;
        let path = scratch.path().to_path_buf();
        Ok(Folder { is_own: false, scratch: Some(scratch), ..Folder::own(path) })
    }

    /// Brings a context from another machine; `what` is shown.
    fn remote_folder(&self, source: &RemoteSource, what: &str) -> Result<Folder, Failure> {
        let outcome = self.bring(source, what)?;
        let layer = outcome.chain.last().ok_or_else(|| Failure::new(FailureKind::System, "no layer came"))?;
        let path = self.store.snapshot_dir(layer);
        let commit_time = Remotes::commit_time(&outcome, &self.store);
        match source {
            RemoteSource::Git(_) => Ok(Folder { is_own: false, commit_time, ..Folder::own(path) }),
            RemoteSource::Http(_) => {
                let path = path.join(REMOTE_FILE);
                let file = fs::File::open(&path)
                    .map_err(|error| Failure::from_error(FailureKind::System, &error))?;
                let is_archive = context::is_archive(&file)
                    .map_err(|error| Failure::from_error(FailureKind::Corrupt, &error))?;
                if is_archive {
                    return self.unpack(&file);
                }
                let empty = self.store.root().join("empty");
                Ok(Folder { is_own: false, file: Some(path), ..Folder::own(empty) })
            }
        }
    }

    /// Brings remote files into the store, as a step that users see.
    pub(super) fn bring(&self, source: &RemoteSource, what: &str) -> Result<Outcome, Failure> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let name = format!("[internal] {what} {}", source.shown());
        self.events.send(Event::Planned { step, name });
        self.events.send(Event::Started(step));
        let started = Instant::now();
        let context = solve::Context {
            store: self.store.clone(),
            lease: self.lease.clone(),
            events: self.events.clone(),
            step: Some(step),
            anew: false,
            cache_mounts: Vec::new().into(),
            stop: self.stop.clone(),
        };
        let brought = self.engine.wait_unless_interrupted(self.machine.remotes.context(source, &context))?;
        let end = match &brought {
            Ok((_, true)) => StepOutcome::Cached,
            Ok((_, false)) => StepOutcome::Done(started.elapsed()),
            Err(failure) => StepOutcome::Failed(failure.message.clone()),
        };
        self.events.send(Event::Finished(step, end));
        brought.map(|(outcome, _)| outcome).map_err(|failure| *failure)
    }

    /// Opens `folder`, whose Dockerfile (if one belongs to it) is at `dockerfile`.
    pub(super) fn open(
        &self,
        folder: &Folder,
        dockerfile: Option<&Path>,
    ) -> Result<(Arc<Context>, Ignore), Failure> {
        let invalid = |error: context::Error| Failure::from_error(FailureKind::Invalid, &error);
        let mut ignore = context::ignore_for(dockerfile, &folder.path).map_err(invalid)?;
        if let Some(inside) = below(&folder.path, self.store.root()) {
            // A build that copies its own store copies what it writes, and the secrets of other images.
            ignore
                .hide(inside.as_os_str().as_bytes())
                .map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?;
        }
        // A scratch folder is new each time: what stat says of it will never be asked again.
        let known = folder.scratch.is_none().then(|| StatCache::load(&self.store, &folder.path));
        let modes = match self.request.context_modes {
            ContextModes::Git if folder.is_own => Modes::Git,
            _ => Modes::AsIs,
        };
        let context = Context::open(&folder.path, ignore.clone(), known).map_err(invalid)?.with_modes(modes);
        Ok((Arc::new(context), ignore))
    }

    /// Opens the named contexts that `graph` reads; by number, the main one first.
    pub(super) fn contexts(&self, graph: &Graph, main: &Arc<Context>) -> Result<Contexts, Failure> {
        let mut opened = Contexts { all: vec![Some(Arc::clone(main))], _folders: Vec::new() };
        for (index, named) in self.request.named_contexts.iter().enumerate() {
            let is_read = |read: &Input| matches!(read, Input::Context(id) if id.0 == index + 1);
            let found = graph.vertices.iter().find(|vertex| vertex.reads.iter().any(is_read));
            let context = match found {
                None => None,
                Some(_) => {
                    let folder = self.named_folder(named)?;
                    let (context, _) = self.open(&folder, None)?;
                    opened._folders.push(folder);
                    Some(context)
                }
            };
            opened.all.push(context);
        }
        Ok(opened)
    }

    fn named_folder(&self, named: &NamedContext) -> Result<Folder, Failure> {
        let folder = match &named.source {
            NamedSource::Directory(path) => Folder::own(check_folder(path)?),
            NamedSource::Remote(source) => {
                let folder = self.remote_folder(source, &format!("load the context {}", named.name))?;
                match &folder.file {
                    None => folder,
                    // A file that is no archive is a context of one file, as in BuildKit.
                    Some(file) => self.folder_of_one(source, file)?,
                }
            }
            NamedSource::Image(_) | NamedSource::Layout(_) => {
                let message = format!("the context `{}` is an image", named.name);
                return Err(Failure::new(FailureKind::System, message));
            }
        };
        Ok(folder)
    }

    fn folder_of_one(&self, source: &RemoteSource, file: &Path) -> Result<Folder, Failure> {
        let system =
            |error: &(dyn std::error::Error + 'static)| Failure::from_error(FailureKind::System, error);
        let scratch = self.store.scratch_folder().map_err(|error| system(&error))?;
        let name = match source {
            RemoteSource::Http(source) => source.file_name(),
            RemoteSource::Git(_) => "file".to_owned(),
        };
        fs::copy(file, scratch.path().join(name)).map_err(|error| system(&error))?;
        let path = scratch.path().to_path_buf();
        Ok(Folder { is_own: false, scratch: Some(scratch), ..Folder::own(path) })
    }
}

/// The contexts of a build, by number; `None` for one that nothing reads.
pub(super) struct Contexts {
    pub(super) all: Vec<Option<Arc<Context>>>,
    /// Kept as long as they are read.
    _folders: Vec<Folder>,
}

impl Contexts {
    /// Keeps the digests that were learnt for later builds.
    pub(super) fn save(&self) {
        for context in self.all.iter().flatten() {
            // A stat cache that can't be written costs time, not correctness.
            let _ = context.save();
        }
    }
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

/// Where `path` is below `folder`.
fn below(folder: &Path, path: &Path) -> Option<PathBuf> {
    let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
    let inside = path.strip_prefix(folder).ok()?;
    (inside != Path::new("")).then(|| inside.to_owned())
}
