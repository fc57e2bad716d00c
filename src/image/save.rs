//! Images into one tar, as docker 25 and later write it: an OCI layout that is a docker archive, too.
//!
//! ```text
//! blobs/sha256/<hex>   layers, configs, manifests
//! index.json           the manifests, with the names as annotations
//! manifest.json        docker's list: config, names, layers      (docker archives only)
//! oci-layout
//! repositories         names to layers, for very old readers     (docker archives only)
//! ```
//!
//! The same images give the same bytes. A layer that was made here stays uncompressed in a docker
//! archive, as docker itself does; an OCI archive has packed layers only.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use kiln_cache::{Diff, Digest, Hasher, Image, LayerBlob, Lease, SnapshotId, Store};
use serde_json::{Value, json};

use super::assemble;
use super::error::{Error, Result};
use super::layer::Times;
use super::packed::{self, Packed};
use crate::oci::{Platform, Reference, media_type};

/// Which readers an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `docker load` and everything that reads OCI layouts.
    Docker,
    /// OCI layouts only.
    Oci,
}

/// An image with the names that it has in the archive.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// Its names; may be empty.
    pub names: Vec<Reference>,
}

/// Writes `images` as one tar. `lease` keeps what is packed meanwhile.
pub fn save(
    store: &Store,
    lease: &Lease,
    images: &[Saved],
    kind: ArchiveKind,
    out: &mut dyn Write,
) -> Result<()> {
    let mut plan = Plan {
        store,
        contents: BTreeMap::new(),
        index: Vec::new(),
        list: Vec::new(),
        repositories: BTreeMap::new(),
    };
    for saved in images {
        if !lease.hold(&saved.image.chain)? {
            return Err(Error::NotFound { name: saved.image.id.to_string(), closest: None });
        }
        plan.add(lease, saved, kind)?;
    }
    let mut archive = Archive { out };
    archive.folder("blobs/")?;
    archive.folder("blobs/sha256/")?;
    for (digest, content) in &plan.contents {
        archive.content(store, digest, content)?;
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": plan.index });
    archive.json("index.json", &index)?;
    if kind == ArchiveKind::Docker {
        archive.json("manifest.json", &Value::Array(plan.list))?;
    }
    archive.json("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    if kind == ArchiveKind::Docker && !plan.repositories.is_empty() {
        archive.json("repositories", &json!(plan.repositories))?;
    }
    archive.end()
}

/// A file below `blobs/`.
enum Content {
    Bytes(Vec<u8>),
    Blob(u64),
    Tar(SnapshotId, Times, Diff),
}

struct Plan<'a> {
    store: &'a Store,
    contents: BTreeMap<Digest, Content>,
    index: Vec<Value>,
    list: Vec<Value>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Plan<'_> {
    fn add(&mut self, lease: &Lease, saved: &Saved, kind: ArchiveKind) -> Result<()> {
        let packed = match kind {
            ArchiveKind::Oci => packed::pack(self.store, lease, &saved.image)?,
            ArchiveKind::Docker => self.unpacked(lease, &saved.image)?,
        };
        for layer in &packed.layers {
            self.contents.entry(layer.digest).or_insert(Content::Blob(layer.size));
        }
        self.contents.insert(packed.config.digest, Content::Bytes(self.store.read_blob(&saved.image.id)?));
        let size = packed.manifest.len();
        let config = super::find::config(self.store, &saved.image)?;
        let platform = Platform::of_config(&config);
        let mut platform_json = json!({ "architecture": platform.architecture, "os": platform.os });
        if let Some(variant) = platform.variant {
            platform_json["variant"] = variant.into();
        }
        let descriptor = json!({
            "mediaType": packed.manifest_type, "digest": packed.manifest_digest, "size": size, "platform": platform_json,
        });
        self.contents.insert(packed.manifest_digest, Content::Bytes(packed.manifest));
        let top = packed.layers.last().unwrap_or(&packed.config).digest;
        for name in &saved.names {
            let tag = name.tag.clone().unwrap_or_else(|| "latest".to_owned());
            let mut named = descriptor.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name.with_tag(&tag).to_string(),
                "org.opencontainers.image.ref.name": tag,
            });
            self.index.push(named);
            self.repositories.entry(name.familiar_name()).or_default().insert(tag, top.hex());
        }
        if saved.names.is_empty() {
            self.index.push(descriptor);
        }
        let tags: BTreeSet<String> = saved.names.iter().map(Reference::familiar).collect();
        self.list.push(json!({
            "Config": path(&packed.config.digest),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": packed.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
        }));
        Ok(())
    }

    /// The image with its layers as they are: blobs where they were kept, else plain tars.
    fn unpacked(&mut self, lease: &Lease, image: &Image) -> Result<Packed> {
        if let Some(packed) = packed::as_pulled(self.store, lease, image)? {
            return Ok(packed);
        }
        let mut layers = Vec::with_capacity(image.chain.len());
        for (id, times, diff) in assemble::layers(self.store, image)? {
            layers.push(match packed::kept_blob(self.store, lease, &diff, |_| true)? {
                Some(blob) => blob,
                None => {
                    self.contents.insert(diff.id, Content::Tar(id, times, diff));
                    LayerBlob {
                        digest: diff.id,
                        size: diff.tar_bytes,
                        media_type: media_type::OCI_LAYER.to_owned(),
                    }
                }
            });
        }
        packed::with_manifest(self.store, image, layers)
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar whose bytes depend on nothing but what is put in.
struct Archive<'a> {
    out: &'a mut dyn Write,
}

impl Archive<'_> {
    fn content(&mut self, store: &Store, digest: &Digest, content: &Content) -> Result<()> {
        match content {
            Content::Bytes(bytes) => self.file(&path(digest), bytes),
            Content::Blob(size) => {
                self.header(&path(digest), *size, tar::EntryType::Regular)?;
                let mut checked = Checked::new(self.out);
                let mut blob = store.open_blob(digest)?;
                io::copy(&mut blob, &mut checked).map_err(Error::io("write the archive"))?;
                checked.finish(digest, *size)?;
                self.pad(*size)
            }
            Content::Tar(id, times, diff) => {
                self.header(&path(digest), diff.tar_bytes, tar::EntryType::Regular)?;
                let mut checked = Checked::new(self.out);
                packed::write_tar(store, (id, *times), diff, &mut checked)?;
                checked.finish(digest, diff.tar_bytes)?;
                self.pad(diff.tar_bytes)
            }
        }
    }

    fn json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.file(name, value.to_string().as_bytes())
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.header(name, bytes.len() as u64, tar::EntryType::Regular)?;
        self.out.write_all(bytes).map_err(Error::io("write the archive"))?;
        self.pad(bytes.len() as u64)
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        self.header(name, 0, tar::EntryType::Directory)
    }

    fn header(&mut self, name: &str, size: u64, kind: tar::EntryType) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(Error::io("write the archive"))?;
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(Error::io("write the archive"))
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = (size.next_multiple_of(512) - size) as usize;
        self.out.write_all(&[0; 512][..padding]).map_err(Error::io("write the archive"))
    }

    fn end(&mut self) -> Result<()> {
        self.out.write_all(&[0; 1024]).map_err(Error::io("write the archive"))?;
        self.out.flush().map_err(Error::io("write the archive"))
    }
}

/// Hashes what passes: an archive with other bytes than its names say helps nobody.
struct Checked<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
    bytes: u64,
}

impl<'a> Checked<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out, hasher: Hasher::new(), bytes: 0 }
    }

    fn finish(self, digest: &Digest, size: u64) -> Result<()> {
        if self.bytes != size || self.hasher.finish() != *digest {
            return Err(Error::Unpackable { layer: *digest });
        }
        Ok(())
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
