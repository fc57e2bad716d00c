//! Images out of a tar: docker archives of any age that has a `manifest.json`, and OCI layouts.
//!
//! 1. The stream, compressed or not, is spooled file by file to the store's disk, because names come in any
//!    order. Files get numbers, so that no name of the archive is ever a path here.
//! 2. Every image is brought into the store: layers through [`ingest`], checked against the config.
//! 3. Only when all of them are in do they get their names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use kiln_cache::{Digest, Image, Lease, NewImage, Scratch, Store};
use serde::Deserialize;

use super::assemble::{size, unix_seconds};
use super::error::{Error, Result};
use super::ingest::{Expected, ingest};
use super::layer::{self, Entries, Kind, clean};
use crate::oci::{
    Descriptor, ImageConfig, ImageIndex, ImageManifest, Platform, Reference, choose, digest_of, media_type,
};

/// Most files in an archive.
const FILES: usize = 1 << 16;
/// Most bytes of a JSON document.
const DOCUMENT_BYTES: u64 = 16 << 20;
/// How deep an index may name indexes.
const INDEX_DEPTH: usize = 3;
/// How long a chain of links in an archive may be.
const LINKS: usize = 8;

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that it got.
    pub names: Vec<Reference>,
}

/// Loads every image of the archive in `reader`; of a multi-platform one that of `platform`.
pub fn load(
    store: &Store,
    lease: &Lease,
    reader: &mut (dyn Read + Send),
    platform: &Platform,
) -> Result<Vec<Loaded>> {
    let spool = Spool::fill(store, reader)?;
    let wanted = if spool.has("manifest.json") {
        docker_archive(&spool)?
    } else if spool.has("index.json") {
        oci_layout(&spool, platform)?
    } else if spool.is_empty() {
        return Err(Error::archive("it is empty"));
    } else {
        return Err(Error::archive("it has neither a manifest.json nor an index.json"));
    };
    if wanted.is_empty() {
        return Err(Error::archive("there is no image in it"));
    }
    let mut loaded = Vec::with_capacity(wanted.len());
    for image in wanted {
        let names = image.names.clone();
        loaded.push(Loaded { image: bring(store, lease, &spool, image)?, names });
    }
    for loaded in &loaded {
        for name in &loaded.names {
            store.tag(&name.to_string(), &loaded.image.id)?;
        }
    }
    Ok(loaded)
}

/// Brings one image of the OCI layout in `folder`: that with the tag or digest `wanted`, else the only one, else the
/// one tagged `latest`. It gets no name in the store.
pub fn from_layout(
    store: &Store,
    lease: &Lease,
    folder: &Path,
    wanted: Option<&str>,
    platform: &Platform,
) -> Result<Image> {
    let spool = Spool::of_layout(folder);
    let index: ImageIndex = parse("index.json", &spool.document("index.json")?)?;
    let entries: Vec<&Descriptor> =
        index.manifests().iter().filter(|entry| !crate::oci::is_attestation(entry)).collect();
    let tag_of = |entry: &Descriptor| {
        let annotations = entry.annotations().as_ref()?;
        let name = annotations.get("org.opencontainers.image.ref.name")?;
        Some(name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag).to_owned())
    };
    let is = |entry: &&&Descriptor| match wanted {
        Some(digest) if digest.contains(':') => entry.digest().to_string() == digest,
        tag => tag_of(entry).as_deref() == Some(tag.unwrap_or("latest")),
    };
    let found = match (entries.as_slice(), wanted) {
        ([only], None) => Some(only),
        _ => entries.iter().find(is),
    };
    let Some(entry) = found else {
        let tags: Vec<String> = entries.iter().filter_map(|entry| tag_of(entry)).collect();
        let which = wanted.unwrap_or("latest");
        return Err(Error::archive(format!("it has no image `{which}` (tags: {})", tags.join(", "))));
    };
    let manifest = manifest_of(&spool, entry, platform, INDEX_DEPTH)?;
    bring(store, lease, &spool, of_manifest(&spool, &manifest, "index.json")?)
}

/// An image of an archive, not yet in the store.
struct Wanted {
    names: Vec<Reference>,
    config: Vec<u8>,
    /// The manifest as it is in the archive, when it has one.
    manifest: Option<Vec<u8>>,
    layers: Vec<Layer>,
}

struct Layer {
    file: String,
    digest: Option<Digest>,
    media_type: Option<String>,
}

/// A line of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker_archive(spool: &Spool) -> Result<Vec<Wanted>> {
    let images: Vec<DockerImage> = parse("manifest.json", &spool.document("manifest.json")?)?;
    let manifests = manifests_by_config(spool);
    let mut wanted = Vec::with_capacity(images.len());
    for image in images {
        let config = spool.document(&image.config)?;
        let id = Digest::of(&config);
        let tags = image.repo_tags.unwrap_or_default();
        let names = tags.iter().map(|tag| Ok(Reference::parse(tag)?)).collect::<Result<Vec<_>>>()?;
        if let Some(manifest) = manifests.get(&id) {
            wanted.push(Wanted { names, ..of_manifest(spool, manifest, "manifest.json")? });
            continue;
        }
        let layers = image.layers.unwrap_or_default().into_iter();
        let layers =
            layers.map(|file| Layer { digest: blob_digest(&file), media_type: None, file }).collect();
        wanted.push(Wanted { names, config, manifest: None, layers });
    }
    Ok(wanted)
}

/// The manifests of the OCI layout beside a `manifest.json`, by their configs; none when it is odd.
fn manifests_by_config(spool: &Spool) -> HashMap<Digest, Vec<u8>> {
    let mut found = HashMap::new();
    let Ok(index) = spool.document("index.json") else { return found };
    let Ok(index) = serde_json::from_slice::<ImageIndex>(&index) else { return found };
    for entry in index.manifests() {
        let Ok(bytes) = spool.blob(entry) else { continue };
        let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&bytes) else { continue };
        if let Ok(config) = digest_of(manifest.config()) {
            found.insert(config, bytes);
        }
    }
    found
}

fn oci_layout(spool: &Spool, platform: &Platform) -> Result<Vec<Wanted>> {
    let index: ImageIndex = parse("index.json", &spool.document("index.json")?)?;
    let mut wanted: Vec<(Digest, Wanted)> = Vec::new();
    for entry in index.manifests() {
        if crate::oci::is_attestation(entry) {
            continue;
        }
        let annotations = entry.annotations().clone().unwrap_or_default();
        // The second is a bare tag as a rule, which names nothing alone.
        let name = annotations.get("io.containerd.image.name").or_else(|| {
            annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
        });
        let name = name.map(|name| Reference::parse(name)).transpose()?;
        let manifest = manifest_of(spool, entry, platform, INDEX_DEPTH)?;
        let digest = Digest::of(&manifest);
        match wanted.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, known)) => known.names.extend(name),
            None => {
                let image = of_manifest(spool, &manifest, "index.json")?;
                wanted.push((digest, Wanted { names: name.into_iter().collect(), ..image }));
            }
        }
    }
    Ok(wanted.into_iter().map(|(_, image)| image).collect())
}

fn manifest_of(spool: &Spool, entry: &Descriptor, platform: &Platform, depth: usize) -> Result<Vec<u8>> {
    let bytes = spool.blob(entry)?;
    if !media_type::is_index(entry.media_type().as_ref()) {
        return Ok(bytes);
    }
    let index: ImageIndex = parse("an index", &bytes)?;
    match choose(index.manifests(), platform) {
        Some(entry) if depth > 0 => manifest_of(spool, entry, platform, depth - 1),
        Some(_) => Err(Error::archive("its indexes are nested too deeply")),
        None => Err(Error::archive(format!("it has no image for platform {platform}"))),
    }
}

fn of_manifest(spool: &Spool, bytes: &[u8], whose: &'static str) -> Result<Wanted> {
    let manifest: ImageManifest = parse(whose, bytes)?;
    let config = spool.blob(manifest.config())?;
    let mut layers = Vec::with_capacity(manifest.layers().len());
    for layer in manifest.layers() {
        let kind = layer.media_type().to_string();
        if !media_type::is_layer(&kind) {
            return Err(Error::archive(format!("a layer has the media type `{kind}`")));
        }
        let digest = digest_of(layer).map_err(|error| Error::archive(error.to_string()))?;
        layers.push(Layer { file: blob_file(&digest), digest: Some(digest), media_type: Some(kind) });
    }
    Ok(Wanted { names: Vec::new(), config, manifest: Some(bytes.to_vec()), layers })
}

fn bring(store: &Store, lease: &Lease, spool: &Spool, wanted: Wanted) -> Result<Image> {
    let config: ImageConfig = parse("the config", &wanted.config)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != wanted.layers.len() {
        let (named, there) = (diff_ids.len(), wanted.layers.len());
        return Err(Error::archive(format!("a config names {named} layers where {there} are given")));
    }
    let created = config.created.as_deref().and_then(unix_seconds).unwrap_or(0);
    let mut chain = Vec::with_capacity(diff_ids.len());
    for (layer, diff_id) in wanted.layers.iter().zip(diff_ids) {
        if let Some(id) = store.layer_snapshot(diff_id)?
            && lease.hold(&[id])?
        {
            chain.push(id);
            continue;
        }
        let mut file = spool.open(&layer.file)?;
        let expected = Expected {
            name: format!("`{}` of the archive", layer.file),
            // A plain layer of kiln's own form needs no blob of its own.
            blob: layer.digest.filter(|digest| digest != diff_id),
            diff_id: Some(*diff_id),
            media_type: layer.media_type.clone(),
            created,
        };
        chain.push(ingest(store, lease, &mut file, &expected)?);
    }
    let id = store.put_blob(&wanted.config, lease)?;
    let manifest = wanted.manifest.map(|bytes| store.put_blob(&bytes, lease)).transpose()?;
    if store.image(&id)?.is_none() {
        let size = size(store, &chain)?;
        store.put_image(&NewImage { id, manifest, chain, size, created })?;
    }
    store.image(&id)?.ok_or(Error::Cancelled)
}

fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::archive(format!("{what} is not valid: {error}")))
}

fn blob_file(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that a file below `blobs/` is named after.
fn blob_digest(file: &str) -> Option<Digest> {
    format!("sha256:{}", file.strip_prefix("blobs/sha256/")?).parse().ok()
}

/// The files of an archive, on the store's disk, or those of a layout where they are.
struct Spool {
    folder: Place,
    files: HashMap<Vec<u8>, Spooled>,
}

enum Place {
    /// Files have numbers.
    Numbered(Scratch),
    /// Files have their own names: `index.json` and blobs.
    Layout(PathBuf),
}

enum Spooled {
    File {
        number: usize,
        bytes: u64,
    },
    /// Old docker archives link equal layers.
    Link(Vec<u8>),
}

impl Spool {
    fn fill(store: &Store, reader: &mut (dyn Read + Send)) -> Result<Self> {
        let plain = layer::decompress_any(reader).map_err(Error::io("read the archive"))?;
        let mut entries = Entries::new(plain);
        let mut spool = Self { folder: Place::Numbered(store.scratch_folder()?), files: HashMap::new() };
        let mut buffer = vec![0; 256 << 10];
        while let Some(entry) = entries.next().map_err(Error::ReadArchive)? {
            let name = clean(&entry.path).map_err(|reason| {
                Error::archive(format!("`{}` {reason}", String::from_utf8_lossy(&entry.path)))
            })?;
            if spool.files.len() >= FILES {
                return Err(Error::archive("it has more than 65536 files"));
            }
            match entry.kind {
                Kind::File if entry.segments.is_none() => {
                    let number = spool.files.len();
                    let mut file =
                        File::create_new(spool.path(number)).map_err(Error::io("spool the archive"))?;
                    loop {
                        let got = entries.read(&mut buffer).map_err(Error::ReadArchive)?;
                        if got == 0 {
                            break;
                        }
                        file.write_all(&buffer[..got]).map_err(Error::io("spool the archive"))?;
                    }
                    spool.files.insert(name, Spooled::File { number, bytes: entry.size });
                }
                Kind::Symlink => {
                    let target = relative(&name, &entry.link);
                    spool.files.insert(name, Spooled::Link(target));
                }
                Kind::HardLink => {
                    spool.files.insert(name, Spooled::Link(clean(&entry.link).unwrap_or_default()));
                }
                _ => {}
            }
        }
        entries.drain().map_err(Error::ReadArchive)?;
        Ok(spool)
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name.as_bytes())
    }

    /// The files of a layout's folder; `index.json` and what it names by digest.
    fn of_layout(folder: &Path) -> Self {
        Self { folder: Place::Layout(folder.to_owned()), files: HashMap::new() }
    }

    fn path(&self, number: usize) -> PathBuf {
        match &self.folder {
            Place::Numbered(folder) => folder.path().join(number.to_string()),
            Place::Layout(folder) => folder.clone(),
        }
    }

    fn find(&self, name: &str) -> Result<(PathBuf, u64)> {
        if let Place::Layout(folder) = &self.folder {
            let path = folder.join(name);
            return match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => Ok((path, metadata.len())),
                _ => Err(Error::archive(format!(
                    "`{}` is no OCI layout: it has no `{name}`",
                    folder.display()
                ))),
            };
        }
        let mut wanted = clean(name.as_bytes()).unwrap_or_default();
        for _ in 0..LINKS {
            match self.files.get(&wanted) {
                Some(Spooled::File { number, bytes }) => return Ok((self.path(*number), *bytes)),
                Some(Spooled::Link(target)) => wanted.clone_from(target),
                None => break,
            }
        }
        Err(Error::archive(format!("it names `{name}`, which is not in it")))
    }

    fn open(&self, name: &str) -> Result<File> {
        File::open(self.find(name)?.0).map_err(Error::io("read the spooled archive"))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (path, bytes) = self.find(name)?;
        if bytes > DOCUMENT_BYTES {
            return Err(Error::archive(format!("`{name}` is larger than 16 MiB")));
        }
        std::fs::read(path).map_err(Error::io("read the spooled archive"))
    }

    /// Reads a document by its descriptor and checks it.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = digest_of(descriptor).map_err(|error| Error::archive(error.to_string()))?;
        let bytes = self.document(&blob_file(&digest))?;
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(kiln_cache::Error::DigestMismatch { expected: digest, actual }.into());
        }
        Ok(bytes)
    }
}

/// Where a symlink of the archive leads, by its text alone.
fn relative(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_layers_are_followed_by_text() {
        assert_eq!(relative(b"aa/layer.tar", b"../bb/layer.tar"), b"bb/layer.tar");
        assert_eq!(relative(b"aa/layer.tar", b"../../../x"), b"x");
    }

    #[test]
    fn blobs_are_known_by_their_names() {
        let digest = Digest::of(b"x");
        assert_eq!(blob_digest(&blob_file(&digest)), Some(digest));
        assert_eq!(blob_digest("abc/layer.tar"), None);
    }
}
