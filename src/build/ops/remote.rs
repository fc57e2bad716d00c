//! ADD of an address, and contexts that are one: files of another machine as a layer.
//!
//! The layer of a download has one file, [`FILE`]; that of a repository has its tree. What names the bytes by itself (a
//! checksum, a commit) is looked up without a network. Everything else is asked again in each build, as cheaply as
//! the server allows: by ETag and time, or by `ls-remote`; the result is recorded under what was found, so that
//! steps above it are cached while that stays the same.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Digest, Label, Record, RecordKind, Snapshot, Staged};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::{Machine, now, system};
use crate::api::{Event, Failure, FailureKind, GitSource, HttpSource, RemoteSource, without_password};
use crate::blocking;
use crate::build::solve::{Context, Executed, Key, Op, OpError, OpFuture, Outcome};
use crate::fetch::{Answer, Download, Downloads, Git, Resolved, Saved, Validators, Wanted};

/// What a download is called in its layer; COPY gives it the name that users see.
pub(crate) const FILE: &str = "file";

/// Changes when the same answer becomes another layer than before.
const VERSION: u32 = 1;

/// The most bytes of one file: an endless answer has to end.
const DOWNLOAD_BYTES: u64 = 64 << 30;

/// The kind of note that keeps what a server said of an address.
const HTTP_NOTE: &str = "http";

/// The kind of note that keeps the time of a commit.
const COMMIT_NOTE: &str = "git-commit-time";

/// What reaches other machines: shared by all steps of a build.
#[derive(Debug)]
pub(crate) struct Remotes {
    downloads: Downloads,
    credentials: Credentials,
}

/// A [`Record`]'s address, and what to ask with.
#[derive(Serialize, Deserialize)]
struct Known {
    validators: Validators,
    key: Digest,
}

impl Remotes {
    /// Returns one that has asked nobody yet.
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { downloads: Downloads::default(), credentials }
    }

    /// Brings the files of `source`: those that were brought before if they are still right.
    ///
    /// For contexts, which are needed before there is a graph; the result is recorded here. Also tells whether it was
    /// there already.
    pub(crate) async fn context(
        &self,
        source: &RemoteSource,
        context: &Context,
    ) -> Result<(Outcome, bool), OpError> {
        let cheap = cheap_key(source);
        if is_closed(source)
            && let Some(outcome) = recorded(&cheap.digest, context)?
        {
            return Ok((outcome, true));
        }
        let executed = self.bring(source, context).await?;
        let mut keys = vec![executed.key.digest];
        if is_closed(source) {
            keys.push(cheap.digest);
        }
        let Outcome { id, chain, created } = executed.outcome.clone();
        let record = Record { result: id, chain, created, parts: executed.key.parts.texts() };
        let known = context.store.record(&keys[0]).map_err(|error| system(&error))?.as_ref() == Some(&record);
        let kind = match source {
            RemoteSource::Git(_) => RecordKind::GitCheckout,
            RemoteSource::Http(_) => RecordKind::Regular,
        };
        let label = Label { kind, description: format!("context {}", source.shown()) };
        context.store.put_record(&keys, &record, &label).map_err(|error| system(&error))?;
        Ok((executed.outcome, known))
    }

    /// The time of a commit that was brought, in unix seconds.
    pub(crate) fn commit_time(outcome: &Outcome, store: &kiln_cache::Store) -> Option<i64> {
        store.note(COMMIT_NOTE, &outcome.id.hex()).ok()??.parse().ok()
    }

    async fn bring(&self, source: &RemoteSource, context: &Context) -> Result<Executed, OpError> {
        match source {
            RemoteSource::Http(source) => self.download(source, context).await,
            RemoteSource::Git(source) => self.check_out(source, context).await,
        }
    }

    async fn download(&self, source: &HttpSource, context: &Context) -> Result<Executed, OpError> {
        let note = Digest::of(&source.url).hex();
        let known = known(&note, source, context)?;
        let wanted = Wanted {
            url: source.url.clone(),
            authorization: self.credentials.http(source)?,
            known: known.as_ref().map(|(known, _)| known.validators.clone()).unwrap_or_default(),
            may_leave_tls: source.checksum.is_some(),
            limit: DOWNLOAD_BYTES,
        };
        let answer = self.downloads.get(&wanted).await.map_err(failure)?;
        match (answer, known) {
            (Answer::Unchanged, Some((_, record))) => Ok(reused(record)),
            (Answer::Unchanged, None) => Err(failure(wanted.unasked())),
            (Answer::File(download), _) => {
                let (executed, validators) = keep_download(*download, source, context).await?;
                if !validators.is_empty() {
                    let known = Known { validators, key: executed.key.digest };
                    let text = serde_json::to_string(&known).expect("a note is plain data");
                    context.store.put_note(HTTP_NOTE, &note, &text).map_err(|error| system(&error))?;
                }
                Ok(executed)
            }
        }
    }

    async fn check_out(&self, source: &GitSource, context: &Context) -> Result<Executed, OpError> {
        let scratch = context.store.scratch_folder().map_err(|error| system(&error))?;
        let access = self.credentials.git(source)?;
        let git = Git::new(source, &access, scratch.path());
        let resolved = git.resolve().await.map_err(failure)?;
        let key = git_key(source, &resolved);
        if let Some(record) = held(&key.digest, context)? {
            return Ok(reused(record));
        }
        let checkout = git.checkout(&resolved).await.map_err(failure)?;
        let key = git_key(source, &Resolved { commit: checkout.commit.clone(), ..resolved });
        if let Some(record) = held(&key.digest, context)? {
            return Ok(reused(record));
        }
        let time = checkout.time.to_string();
        context.store.put_note(COMMIT_NOTE, &key.digest.hex(), &time).map_err(|error| system(&error))?;
        let (folder, bytes) = (checkout.folder, checkout.bytes);
        seal(context, key, bytes, move |staged| move_into(&folder, &staged.fs())).await
    }
}

/// What was said of this address, if what came of it is still there and may serve for `source`.
fn known(note: &str, source: &HttpSource, context: &Context) -> Result<Option<(Known, Record)>, OpError> {
    // A checksum that isn't in the cache wants to see the bytes.
    if source.checksum.is_some() {
        return Ok(None);
    }
    let text = context.store.note(HTTP_NOTE, note).map_err(|error| system(&error))?;
    let known: Option<Known> = text.and_then(|text| serde_json::from_str(&text).ok());
    let Some(known) = known else { return Ok(None) };
    Ok(held(&known.key, context)?.map(|record| (known, record)))
}

/// The record under `key`, if its layers are there; they stay while the build runs.
fn held(key: &Digest, context: &Context) -> Result<Option<Record>, OpError> {
    let Some(record) = context.store.record(key).map_err(|error| system(&error))? else { return Ok(None) };
    let held = context.lease.hold(&record.chain).map_err(|error| system(&error))?;
    Ok(held.then_some(record))
}

fn recorded(key: &Digest, context: &Context) -> Result<Option<Outcome>, OpError> {
    Ok(held(key, context)?.map(|record| reused(record).outcome))
}

fn reused(record: Record) -> Executed {
    let key = Key { digest: record.result, parts: record.parts.into() };
    let outcome = Outcome { id: record.result, chain: record.chain, created: record.created };
    Executed { outcome, key }
}

/// Streams the file into a fresh layer, unless the store has its equal.
async fn keep_download(
    download: Download,
    source: &HttpSource,
    context: &Context,
) -> Result<(Executed, Validators), OpError> {
    let (staged, file) = {
        let (store, lease) = (context.store.clone(), context.lease.clone());
        let make = move || {
            let staged = store.stage(&lease).map_err(|error| system(&error))?;
            let file = create(&staged.fs().join(FILE)).map_err(|error| system(&error))?;
            Ok::<_, OpError>((staged, file))
        };
        blocking::run("stage download", make).await?
    };
    let copy = file.try_clone().map_err(|error| system(&error))?;
    let (events, step, item) = (context.events.clone(), context.step, source.file_name());
    let progress = move |done, total| {
        if let Some(step) = step {
            events.send(Event::Transfer { step, item: item.clone(), done, total });
        }
    };
    let saved = download.save(copy, source.checksum.as_ref(), &progress).await.map_err(failure)?;
    let Saved { digest, bytes, validators, modified } = saved;
    // As in BuildKit: a server that says nothing of times gives a file of 1970.
    let seconds = modified.unwrap_or(0);
    let key = KeyBuilder::new("remote http", VERSION)
        .field("content", digest.to_string())
        .field("time", seconds.to_string());
    let key = Key { digest: key.digest(), parts: key.parts() };
    if let Some(record) = held(&key.digest, context)? {
        return Ok((reused(record), validators));
    }
    let executed = blocking::run("seal download", move || {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).map_err(|error| system(&error))?;
        commit(staged, key, bytes)
    });
    Ok((executed.await?, validators))
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a layer by `fill` and seals it under `key`.
async fn seal(
    context: &Context,
    key: Key,
    bytes: u64,
    fill: impl FnOnce(&Staged) -> std::io::Result<()> + Send + 'static,
) -> Result<Executed, OpError> {
    let (store, lease) = (context.store.clone(), context.lease.clone());
    blocking::run("seal checkout", move || {
        let staged = store.stage(&lease).map_err(|error| system(&error))?;
        fill(&staged).map_err(|error| system(&error))?;
        commit(staged, key, bytes)
    })
    .await
}

fn commit(staged: Staged, key: Key, bytes: u64) -> Result<Executed, OpError> {
    let created = now();
    let snapshot =
        staged.commit(Snapshot { bytes, created, ..Snapshot::default() }).map_err(|error| system(&error))?;
    let outcome = Outcome { id: key.digest, chain: vec![snapshot], created };
    Ok(Executed { outcome, key })
}

/// Moves what is in `from` to the empty folder `to` on the same disk.
fn move_into(from: &Path, to: &Path) -> std::io::Result<()> {
    let names: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    names.iter().try_for_each(|path| fs::rename(path, to.join(path.file_name().unwrap_or_default())))
}

fn failure(error: crate::fetch::Error) -> OpError {
    Box::new(error.failure())
}

/// Tells whether the text names the bytes.
fn is_closed(source: &RemoteSource) -> bool {
    match source {
        RemoteSource::Http(source) => source.checksum.is_some(),
        RemoteSource::Git(source) => source.fixed_commit().is_some(),
    }
}

fn cheap_key(source: &RemoteSource) -> Key {
    let key = match source {
        // The same bytes from elsewhere are the same bytes.
        RemoteSource::Http(HttpSource { checksum: Some(checksum), .. }) => {
            KeyBuilder::new("remote checksum", VERSION).field("checksum", checksum.to_string())
        }
        RemoteSource::Http(source) => {
            KeyBuilder::new("remote url", VERSION).field("url", Digest::of(&source.url).hex())
        }
        RemoteSource::Git(source) => git_definition("remote git cheap", source)
            .optional("reference", source.reference.as_deref())
            .optional("checksum", source.checksum.as_deref()),
    };
    Key { digest: key.digest(), parts: key.parts() }
}

fn git_definition(op: &str, source: &GitSource) -> KeyBuilder {
    // Parts are kept in the store: a password isn't.
    KeyBuilder::new(op, VERSION)
        .field("repository", without_password(&source.remote))
        .field("repository address", Digest::of(&source.remote).hex())
        .field("subdir", &source.subdir)
        .field("keep git dir", (source.keep_git_dir == Some(true)).to_string())
        .field("submodules", source.submodules.to_string())
        .field("commit time", source.commit_time.to_string())
}

fn git_key(source: &GitSource, resolved: &Resolved) -> Key {
    // Only a `.git` that is kept tells by which name the commit came.
    let name = resolved.name.as_deref().filter(|_| source.keep_git_dir == Some(true));
    let key = git_definition("remote git", source).field("commit", &resolved.commit).optional("name", name);
    Key { digest: key.digest(), parts: key.parts() }
}

/// Files of another machine.
pub(super) struct RemoteOp {
    pub(super) source: RemoteSource,
    pub(super) machine: Arc<Machine>,
}

impl Op for RemoteOp {
    fn cheap_key(&self, _inputs: &[Outcome]) -> Key {
        cheap_key(&self.source)
    }

    fn is_closed(&self) -> bool {
        is_closed(&self.source)
    }

    fn execute<'a>(&'a self, _inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(async move {
            let brought = context.stop.unless(self.machine.remotes.bring(&self.source, context)).await;
            brought.unwrap_or_else(|| Err(Box::new(Failure::new(FailureKind::Cancelled, "stopped"))))
        })
    }
}
