//! The packed form of an image: its layers as blobs, and a manifest that names them.
//!
//! A pulled layer's blob is the one that it came in. A layer made here is packed the first time that
//! somebody asks, from its canonical tar, and the blob is kept as long as the layer.

use std::fs::File;
use std::io::{self, Read, Write};

use kiln_cache::{BlobWriter, Diff, Digest, Hasher, Image, LayerBlob, Lease, SnapshotId, Store};
use oci_spec::image::{DescriptorBuilder, ImageManifestBuilder, MediaType, SCHEMA_VERSION};

use super::assemble;
use super::error::{Error, Result};
use super::layer::{self, GzipWriter, LayerError, Times};
use crate::oci::{Descriptor, ImageManifest, digest_of, media_type};

/// An image ready to leave the store.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest_type: String,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: LayerBlob,
    /// Base first; every one of them is a blob of the store.
    pub(crate) layers: Vec<LayerBlob>,
}

/// Packs what isn't packed yet and returns the image's manifest with its parts.
///
/// The manifest that an image was pulled with is used again as long as all its blobs are there.
pub(crate) fn pack(store: &Store, lease: &Lease, image: &Image) -> Result<Packed> {
    if let Some(packed) = as_pulled(store, lease, image)? {
        return Ok(packed);
    }
    let mut layers = Vec::with_capacity(image.chain.len());
    for (id, times, diff) in assemble::layers(store, image)? {
        layers.push(pack_layer(store, lease, (&id, times), &diff)?);
    }
    with_manifest(store, image, layers)
}

/// Returns the image with a manifest of these layers.
pub(crate) fn with_manifest(store: &Store, image: &Image, layers: Vec<LayerBlob>) -> Result<Packed> {
    let size = store.read_blob(&image.id)?.len() as u64;
    let config = LayerBlob { digest: image.id, size, media_type: media_type::OCI_CONFIG.to_owned() };
    let manifest = manifest(&config, &layers)?;
    let manifest_digest = Digest::of(&manifest);
    Ok(Packed {
        manifest_digest,
        manifest_type: media_type::OCI_MANIFEST.to_owned(),
        manifest,
        config,
        layers,
    })
}

/// Returns the image as it was pulled, if every blob of it is still there.
pub(crate) fn as_pulled(store: &Store, lease: &Lease, image: &Image) -> Result<Option<Packed>> {
    let Some(digest) = image.manifest else { return Ok(None) };
    if store.blob_size(&digest)?.is_none() {
        return Ok(None);
    }
    let bytes = store.read_blob(&digest)?;
    let invalid =
        |reason: String| Error::Document { what: "the manifest", image: image.id.to_string(), reason };
    let parsed: ImageManifest = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    let blob = |descriptor: &Descriptor| -> Result<LayerBlob> {
        let digest = digest_of(descriptor).map_err(|error| invalid(error.to_string()))?;
        Ok(LayerBlob { digest, size: descriptor.size(), media_type: descriptor.media_type().to_string() })
    };
    let layers = parsed.layers().iter().map(blob).collect::<Result<Vec<_>>>()?;
    let config = blob(parsed.config())?;
    let all: Vec<Digest> = layers.iter().map(|layer| layer.digest).chain([config.digest]).collect();
    for blob in &all {
        if store.blob_size(blob)?.is_none() {
            return Ok(None);
        }
    }
    if config.digest != image.id || !lease.hold_blobs(&all)? {
        return Ok(None);
    }
    let manifest_type = match parsed.media_type() {
        Some(kind) => kind.to_string(),
        None => media_type::OCI_MANIFEST.to_owned(),
    };
    Ok(Some(Packed { manifest_digest: digest, manifest_type, manifest: bytes, config, layers }))
}

/// Returns a compressed blob of the layer; makes one when there is none.
fn pack_layer(store: &Store, lease: &Lease, layer: (&SnapshotId, Times), diff: &Diff) -> Result<LayerBlob> {
    if let Some(blob) = kept_blob(store, lease, diff, |kind| !is_plain(kind))? {
        return Ok(blob);
    }
    let writer = store.blob_writer(lease)?;
    let gzip = GzipWriter::new(writer).map_err(Error::io("start the compressing threads"))?;
    let mut hashed = Hashed { out: gzip, hasher: Hasher::new() };
    write_tar(store, layer, diff, &mut hashed)?;
    let actual = hashed.hasher.finish();
    if actual != diff.id {
        return Err(Error::Unpackable { layer: diff.id });
    }
    let writer: BlobWriter = hashed.out.finish().map_err(Error::io("write a layer's blob"))?;
    let blob = writer.commit(None)?;
    let blob =
        LayerBlob { digest: blob.digest, size: blob.size, media_type: media_type::OCI_LAYER_GZIP.to_owned() };
    store.add_layer_blob(&diff.id, &blob)?;
    Ok(blob)
}

/// Returns a blob of the layer that the store has, of a media type that will do.
pub(crate) fn kept_blob(
    store: &Store,
    lease: &Lease,
    diff: &Diff,
    will_do: impl Fn(&str) -> bool,
) -> Result<Option<LayerBlob>> {
    for blob in store.layer_blobs(&diff.id)?.iter().filter(|blob| will_do(&blob.media_type)) {
        if store.blob_size(&blob.digest)?.is_some() && lease.hold_blobs(&[blob.digest])? {
            return Ok(Some(LayerBlob { media_type: oci_layer(&blob.media_type), ..blob.clone() }));
        }
    }
    Ok(None)
}

/// Writes the layer's uncompressed tar, exactly as its diffID says: from a kept blob, else from its files.
pub(crate) fn write_tar(
    store: &Store,
    (id, times): (&SnapshotId, Times),
    diff: &Diff,
    out: &mut dyn Write,
) -> Result<()> {
    for blob in store.layer_blobs(&diff.id)? {
        if store.blob_size(&blob.digest)?.is_none() {
            continue;
        }
        let mut plain =
            layer::decompress(store.open_blob(&blob.digest)?).map_err(Error::io("read a layer's blob"))?;
        return copy(&mut plain, out);
    }
    layer::tar(&store.snapshot_dir(id), out, times).map_err(|source: LayerError| Error::Layer {
        action: "pack",
        layer: diff.id.to_string(),
        source,
    })
}

fn copy(from: &mut dyn Read, out: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => out.write_all(&buffer[..got]).map_err(Error::io("write a layer"))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read a layer's blob")(error)),
        }
    }
}

/// Returns the bytes of an OCI manifest; the same parts give the same bytes.
fn manifest(config: &LayerBlob, layers: &[LayerBlob]) -> Result<Vec<u8>> {
    let invalid =
        |reason: String| Error::Document { what: "the manifest", image: config.digest.to_string(), reason };
    let describe = |blob: &LayerBlob, kind: &str| {
        DescriptorBuilder::default()
            .media_type(MediaType::from(kind))
            .digest(
                blob.digest
                    .to_string()
                    .parse::<oci_spec::image::Digest>()
                    .map_err(|error| invalid(error.to_string()))?,
            )
            .size(blob.size)
            .build()
            .map_err(|error| invalid(error.to_string()))
    };
    let layers = layers
        .iter()
        .map(|layer| describe(layer, &oci_layer(&layer.media_type)))
        .collect::<Result<Vec<_>>>()?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(describe(config, media_type::OCI_CONFIG)?)
        .layers(layers)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    serde_json::to_vec(&manifest).map_err(|error| invalid(error.to_string()))
}

/// Opens a blob for an upload.
pub(crate) fn open(store: &Store, digest: &Digest) -> io::Result<File> {
    store.open_blob(digest).map_err(io::Error::other)
}

fn is_plain(kind: &str) -> bool {
    matches!(kind, media_type::OCI_LAYER | media_type::DOCKER_LAYER)
}

/// Names a layer in OCI's words; the bytes are the same.
fn oci_layer(kind: &str) -> String {
    match kind {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP | media_type::DOCKER_FOREIGN_LAYER => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        other => other,
    }
    .to_owned()
}

struct Hashed<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
