//! From a registry into the store.
//!
//! 1. The name is resolved; an index gives the manifest of the platform.
//! 2. The config is fetched and checked against the manifest. A build stops here ([`seek`]) until a step needs the
//!    layers.
//! 3. At most four layers at a time are downloaded, verified and unpacked as they come ([`ingest`]).
//!    A layer whose diffID has a snapshot already isn't fetched. Two pulls, also of two processes, don't
//!    fetch one layer twice.
//! 4. The image is put and named. Until then nothing of it is visible.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kiln_cache::{Digest, Image, Lease, NewImage, SnapshotId, Store};
use tokio::sync::mpsc;

use super::assemble::{size, unix_seconds};
use super::error::{Error, Result};
use super::ingest::{Expected, ingest};
use crate::api::{Event, Events, StepId};
use crate::blocking;
use crate::oci::{
    Descriptor, ImageConfig, ImageIndex, ImageManifest, Platform, Reference, choose, digest_of, media_type,
};
use crate::registry::{BlobStream, Client, Resolved};

/// Layers that move at the same time.
const LAYERS_AT_ONCE: usize = 4;
/// Pieces of a download that wait for the disk.
const PIECES: usize = 16;
/// Largest configuration that is read.
const CONFIG_BYTES: i64 = 8 << 20;
/// How often another process's pull of the same layer is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Whether a pull brought anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// The name means another image than before.
    Newer,
    /// The name meant this image already.
    UpToDate,
}

/// What a pull gave.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest that the name stands for at the registry; of an index, when it is one.
    pub digest: Digest,
    /// Whether that is new.
    pub status: PullStatus,
}

/// Who is told about layers.
#[derive(Debug, Clone)]
pub struct Sink {
    /// The build's step, or `None` outside a build: then each layer gets docker's lines, too.
    pub step: Option<StepId>,
    /// Where events go.
    pub events: Events,
}

impl Sink {
    /// Tells nobody.
    pub fn none() -> Self {
        Self { step: None, events: Events::none() }
    }

    pub(super) fn line(&self, digest: &Digest, what: &str) {
        if self.step.is_none() {
            self.events.send(Event::Status(format!("{}: {what}", digest.short())));
        }
    }

    pub(super) fn transfer(&self, digest: &Digest, done: u64, total: u64) {
        let step = self.step.unwrap_or(0);
        self.events.send(Event::Transfer { step, item: digest.short(), done, total });
    }
}

/// The parts that every step of a pull needs.
#[derive(Clone)]
struct Pull {
    store: Store,
    client: Client,
    reference: Reference,
    lease: Lease,
    sink: Sink,
}

/// An image that was looked for at its registry.
#[derive(Debug)]
pub enum Sought {
    /// Just this image is in the store already, and has its names.
    Here(Pulled),
    /// Its config is here; its layers can be brought.
    There(Box<Remote>),
}

/// An image at its registry: what it is, without its layers.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    reference: Reference,
    /// What the registry gave for the name: of an index, when it is one.
    digest: Digest,
    manifest: Resolved,
    parsed: ImageManifest,
    id: Digest,
    config: ImageConfig,
}

impl Remote {
    /// Returns the id that the image has in the store.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Returns its config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Returns when it was made, in unix seconds.
    pub fn created(&self) -> i64 {
        self.config.created.as_deref().and_then(unix_seconds).unwrap_or(0)
    }

    /// Brings the layers and names the image; `lease` keeps its parts.
    pub async fn bring(&self, store: &Store, lease: &Lease, sink: &Sink) -> Result<Pulled> {
        Pull::new(store, &self.client, &self.reference, lease, sink).bring(self).await
    }
}

/// Pulls the image that `reference` names for `platform`; `lease` keeps its parts.
pub async fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    lease: &Lease,
    sink: &Sink,
) -> Result<Pulled> {
    let pull = Pull::new(store, client, reference, lease, sink);
    match pull.seek(platform).await? {
        Sought::Here(pulled) => Ok(pulled),
        Sought::There(remote) => pull.bring(&remote).await,
    }
}

/// Asks the registry what `reference` is for `platform`, without fetching layers.
pub async fn seek(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    lease: &Lease,
) -> Result<Sought> {
    Pull::new(store, client, reference, lease, &Sink::none()).seek(platform).await
}

impl Pull {
    fn new(store: &Store, client: &Client, reference: &Reference, lease: &Lease, sink: &Sink) -> Self {
        Self {
            store: store.clone(),
            client: client.clone(),
            reference: reference.clone(),
            lease: lease.clone(),
            sink: sink.clone(),
        }
    }

    async fn seek(&self, platform: &Platform) -> Result<Sought> {
        let resolved = self.client.resolve(&self.reference).await?;
        let pinned = self.pinned(resolved.digest);
        if let Some(image) = self.known(&pinned, platform)? {
            let status = self.name(&image, &pinned)?;
            return Ok(Sought::Here(Pulled { image, digest: resolved.digest, status }));
        }
        let manifest = self.manifest(&resolved, platform).await?;
        let parsed = self.parse_manifest(&manifest)?;
        let (id, config) = self.config(&parsed, platform).await?;
        let (client, reference, digest) = (self.client.clone(), self.reference.clone(), resolved.digest);
        Ok(Sought::There(Box::new(Remote { client, reference, digest, manifest, parsed, id, config })))
    }

    async fn bring(&self, remote: &Remote) -> Result<Pulled> {
        let Remote { manifest, parsed, id, config, digest, .. } = remote;
        let chain = self.layers(parsed, config).await?;
        self.store.put_blob(&manifest.bytes, &self.lease)?;
        let created = remote.created();
        let size = size(&self.store, &chain)?;
        self.store.put_image(&NewImage { id: *id, manifest: Some(manifest.digest), chain, size, created })?;
        let image = self.store.image(id)?.ok_or(Error::Cancelled)?;
        let status = self.name(&image, &self.pinned(*digest))?;
        // Read again, now with its names.
        let image = self.store.image(id)?.unwrap_or(image);
        Ok(Pulled { image, digest: *digest, status })
    }

    /// The name that will mean the same for ever.
    fn pinned(&self, digest: Digest) -> String {
        self.reference.with_digest(digest).to_string()
    }

    /// Returns the image that was pulled under this digest before, if it is whole and of the platform.
    fn known(&self, pinned: &str, platform: &Platform) -> Result<Option<Image>> {
        let Some(image) = self.store.image_by_name(pinned)? else { return Ok(None) };
        let fits = platform.matches(&Platform::of_config(&super::find::config(&self.store, &image)?));
        Ok((fits && self.lease.hold(&image.chain)?).then_some(image))
    }

    /// Gives the image its names.
    fn name(&self, image: &Image, pinned: &str) -> Result<PullStatus> {
        self.store.add_repo_digest(pinned, &image.id)?;
        if self.reference.digest.is_some() {
            let new = !image.repo_digests.iter().any(|name| name == pinned);
            return Ok(if new { PullStatus::Newer } else { PullStatus::UpToDate });
        }
        let name = self.reference.with_tag(self.reference.tag.as_deref().unwrap_or("latest")).to_string();
        let before = self.store.tag(&name, &image.id)?;
        Ok(if before == Some(image.id) { PullStatus::UpToDate } else { PullStatus::Newer })
    }

    async fn manifest(&self, resolved: &Resolved, platform: &Platform) -> Result<Resolved> {
        if !media_type::is_index(&resolved.media_type) {
            return Ok(resolved.clone());
        }
        let index: ImageIndex = serde_json::from_slice(&resolved.bytes)
            .map_err(|error| self.invalid("the index", error.to_string()))?;
        let Some(entry) = choose(index.manifests(), platform) else {
            let available: Vec<String> =
                index.manifests().iter().filter_map(Platform::of_descriptor).map(|p| p.to_string()).collect();
            return Err(Error::Platform {
                image: self.reference.familiar(),
                platform: platform.clone(),
                available: if available.is_empty() { "none".to_owned() } else { available.join(", ") },
            });
        };
        let digest = digest_of(entry).map_err(|error| self.invalid("the index", error.to_string()))?;
        Ok(self.client.manifest(&self.reference, digest).await?)
    }

    fn parse_manifest(&self, manifest: &Resolved) -> Result<ImageManifest> {
        if !media_type::is_manifest(&manifest.media_type) {
            let reason = format!("it has the media type `{}`, which is no image's", manifest.media_type);
            return Err(self.invalid("the manifest", reason));
        }
        let parsed: ImageManifest = serde_json::from_slice(&manifest.bytes)
            .map_err(|error| self.invalid("the manifest", error.to_string()))?;
        for layer in parsed.layers() {
            let kind = layer.media_type().to_string();
            if !media_type::is_layer(&kind) {
                let reason =
                    format!("a layer has the media type `{kind}`; this is not an image that can be run");
                return Err(self.invalid("the manifest", reason));
            }
        }
        Ok(parsed)
    }

    async fn config(&self, manifest: &ImageManifest, platform: &Platform) -> Result<(Digest, ImageConfig)> {
        let descriptor = manifest.config();
        let id = digest_of(descriptor).map_err(|error| self.invalid("the manifest", error.to_string()))?;
        let bytes = match self.store.blob_size(&id)? {
            Some(_) if self.lease.hold_blobs(&[id])? => self.store.read_blob(&id)?,
            _ => self.fetch_config(descriptor, &id).await?,
        };
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|error| self.invalid("the config", error.to_string()))?;
        let (layers, diff_ids) = (manifest.layers().len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            let reason = format!("it names {diff_ids} layers and the manifest {layers}");
            return Err(self.invalid("the config", reason));
        }
        let actual = Platform::of_config(&config);
        if !platform.matches(&actual) {
            return Err(Error::Platform {
                image: self.reference.familiar(),
                platform: platform.clone(),
                available: actual.to_string(),
            });
        }
        Ok((id, config))
    }

    async fn fetch_config(&self, descriptor: &Descriptor, id: &Digest) -> Result<Vec<u8>> {
        if i64::try_from(descriptor.size()).unwrap_or(i64::MAX) > CONFIG_BYTES {
            return Err(self.invalid("the config", "it is larger than 8 MiB".to_owned()));
        }
        let mut stream = self.client.blob(&self.reference, descriptor).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        let actual = Digest::of(&bytes);
        if actual != *id {
            return Err(kiln_cache::Error::DigestMismatch { expected: *id, actual }.into());
        }
        self.store.put_blob(&bytes, &self.lease)?;
        Ok(bytes)
    }

    async fn layers(&self, manifest: &ImageManifest, config: &ImageConfig) -> Result<Vec<SnapshotId>> {
        let created = config.created.as_deref().and_then(unix_seconds).unwrap_or(0);
        let layers = manifest.layers().iter().cloned().zip(config.rootfs.diff_ids.iter().copied());
        let work = layers.map(|(descriptor, diff_id)| self.clone().layer(descriptor, diff_id, created));
        futures_util::stream::iter(work.collect::<Vec<_>>()).buffered(LAYERS_AT_ONCE).try_collect().await
    }

    async fn layer(self, descriptor: Descriptor, diff_id: Digest, created: i64) -> Result<SnapshotId> {
        let digest =
            digest_of(&descriptor).map_err(|error| self.invalid("the manifest", error.to_string()))?;
        if let Some(id) = self.present(&diff_id)? {
            self.sink.line(&digest, "Already exists");
            return Ok(id);
        }
        self.sink.line(&digest, "Pulling fs layer");
        // Whoever else pulls this layer does it for us, too.
        let _lock = loop {
            if let Some(lock) = self.store.try_lock_key(&diff_id)? {
                break lock;
            }
            tokio::time::sleep(POLL).await;
        };
        if let Some(id) = self.present(&diff_id)? {
            self.sink.line(&digest, "Already exists");
            return Ok(id);
        }
        let stream = self.client.blob(&self.reference, &descriptor).await?;
        let expected = Expected {
            name: format!("layer `{digest}`"),
            blob: Some(digest),
            diff_id: Some(diff_id),
            media_type: Some(descriptor.media_type().to_string()),
            created,
        };
        let id = self.unpack(stream, expected, digest, descriptor.size()).await?;
        self.sink.line(&digest, "Pull complete");
        Ok(id)
    }

    fn present(&self, diff_id: &Digest) -> Result<Option<SnapshotId>> {
        let Some(id) = self.store.layer_snapshot(diff_id)? else { return Ok(None) };
        Ok(self.lease.hold(&[id])?.then_some(id))
    }

    async fn unpack(
        &self,
        mut stream: BlobStream,
        expected: Expected,
        digest: Digest,
        total: u64,
    ) -> Result<SnapshotId> {
        let (pieces, queue) = mpsc::channel::<Result<Bytes, Error>>(PIECES);
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let worker = blocking::run("unpack layer", move || {
            let mut source = Download { queue, piece: Bytes::new(), ended: false, failed: None };
            let result = ingest(&store, &lease, &mut source, &expected);
            match source.failed {
                // Why the download broke says more than that the archive was cut.
                Some(error) => Err(error),
                None => result,
            }
        });
        let feed = async move {
            let mut done = 0;
            while let Some(piece) = stream.next().await {
                if let Ok(bytes) = &piece {
                    done += bytes.len() as u64;
                    self.sink.transfer(&digest, done, total);
                }
                if pieces.send(piece.map_err(Error::from)).await.is_err() {
                    return;
                }
            }
            // An empty piece says that this was the end, not the caller's death.
            let _ = pieces.send(Ok(Bytes::new())).await;
        };
        let ((), result) = tokio::join!(feed, worker);
        result
    }

    fn invalid(&self, what: &'static str, reason: String) -> Error {
        Error::Document { what, image: self.reference.familiar(), reason }
    }
}

/// A download, as the unpacking thread reads it.
struct Download {
    queue: mpsc::Receiver<Result<Bytes, Error>>,
    piece: Bytes,
    ended: bool,
    failed: Option<Error>,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Ok(piece)) => {
                    self.ended = piece.is_empty();
                    self.piece = piece;
                }
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                None => {
                    self.failed = Some(Error::Cancelled);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        let got = buffer.len().min(self.piece.len());
        buffer[..got].copy_from_slice(&self.piece.split_to(got));
        Ok(got)
    }
}

/// Counts bytes of concurrent transfers for their events.
pub(super) fn progress(sink: &Sink, digest: Digest, total: u64) -> crate::registry::Progress {
    let sink = sink.clone();
    Arc::new(move |done| sink.transfer(&digest, done, total))
}
