//! From the store to a registry: layers first, then the config, then the manifest that makes them an image.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kiln_cache::{Digest, Image, LayerBlob, Lease, NewImage, Store};

use super::error::Result;
use super::packed::{self, Packed};
use super::pull::{Sink, progress};
use crate::api::Event;
use crate::blocking;
use crate::oci::Reference;
use crate::registry::Client;

/// Blobs that move at the same time.
const BLOBS_AT_ONCE: usize = 4;

/// What a push gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest, by which the registry now knows the image.
    pub digest: Digest,
    /// The manifest's length.
    pub size: u64,
}

/// Pushes `image` under `reference`.
///
/// Layers that the registry has are not sent; those that another of its repositories has are mounted.
pub async fn push(
    store: &Store,
    client: &Client,
    lease: &Lease,
    image: &Image,
    reference: &Reference,
    sink: &Sink,
) -> Result<Pushed> {
    sink.events.send(Event::Status(format!("The push refers to repository [{}]", reference.name())));
    for (_, _, diff) in super::assemble::layers(store, image)? {
        sink.line(&diff.id, "Preparing");
    }
    let (packing, packing_lease, packing_image) = (store.clone(), lease.clone(), image.clone());
    let packed =
        blocking::run("pack image", move || packed::pack(&packing, &packing_lease, &packing_image)).await?;
    let push = Push { store, client, image, reference, sink };
    let blobs = packed.layers.iter().chain([&packed.config]);
    let names = layer_names(store, image)?;
    let work: Vec<_> = blobs.enumerate().map(|(at, blob)| push.blob(blob, names.get(at).copied())).collect();
    let _: Vec<()> = futures_util::stream::iter(work).buffer_unordered(BLOBS_AT_ONCE).try_collect().await?;
    let bytes = Bytes::from(packed.manifest.clone());
    let digest = client.push_manifest(reference, &packed.manifest_type, bytes).await?;
    remember(store, lease, image, reference, &packed)?;
    let size = packed.manifest.len() as u64;
    Ok(Pushed { digest, size })
}

/// Returns what the layers are called: by their diffIDs, as docker does it, which are known before they are packed.
fn layer_names(store: &Store, image: &Image) -> Result<Vec<Digest>> {
    Ok(super::assemble::layers(store, image)?.into_iter().map(|(_, _, diff)| diff.id).collect())
}

/// Keeps the manifest, so that the next push and `inspect` know the same digest.
fn remember(
    store: &Store,
    lease: &Lease,
    image: &Image,
    reference: &Reference,
    packed: &Packed,
) -> Result<()> {
    if image.manifest != Some(packed.manifest_digest) {
        store.put_blob(&packed.manifest, lease)?;
        store.put_image(&NewImage {
            id: image.id,
            manifest: Some(packed.manifest_digest),
            chain: image.chain.clone(),
            size: image.size,
            created: image.created,
        })?;
    }
    let pinned = reference.with_digest(packed.manifest_digest).to_string();
    Ok(store.add_repo_digest(&pinned, &image.id)?)
}

struct Push<'a> {
    store: &'a Store,
    client: &'a Client,
    image: &'a Image,
    reference: &'a Reference,
    sink: &'a Sink,
}

impl Push<'_> {
    /// Uploads what the registry hasn't got; `name` is what its lines begin with, if it has any.
    async fn blob(&self, blob: &LayerBlob, name: Option<Digest>) -> Result<()> {
        let line = |what: &str| {
            if let Some(name) = &name {
                self.sink.line(name, what);
            }
        };
        if self.client.blob_exists(self.reference, &blob.digest).await? {
            line("Layer already exists");
            return Ok(());
        }
        for from in self.neighbours() {
            if self.client.mount_blob(self.reference, &blob.digest, &from).await? {
                line(&format!("Mounted from {from}"));
                return Ok(());
            }
        }
        let (store, digest) = (self.store.clone(), blob.digest);
        let open = move || packed::open(&store, &digest);
        let progress = progress(self.sink, name.unwrap_or(blob.digest), blob.size);
        self.client.push_blob(self.reference, &blob.digest, blob.size, &open, &progress).await?;
        line("Pushed");
        Ok(())
    }

    /// Other repositories of the registry that this image was pulled from or pushed to.
    fn neighbours(&self) -> Vec<String> {
        let names = self.image.repo_digests.iter().filter_map(|name| Reference::parse(name).ok());
        let mut repositories: Vec<String> = names
            .filter(|name| {
                name.registry == self.reference.registry && name.repository != self.reference.repository
            })
            .map(|name| name.repository)
            .collect();
        repositories.dedup();
        // Each is a question to the registry for each layer.
        repositories.truncate(2);
        repositories
    }
}
