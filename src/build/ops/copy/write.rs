//! Writing what was selected into a fresh layer.

use std::collections::{HashMap, hash_map};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use kiln_cache::Hasher;

use crate::build::graph::{CopySpec, PARENTS_MODE};
use crate::build::tree::archive;
use crate::build::tree::{
    Attributes, Entry, Error as TreeError, Kind, LayerWriter, Merged, Owner, Tree, clean, compare, create_in,
    join, set_attributes, show, split_last,
};

use super::content::Content;
use super::transfer::{Copied, Copier};
use super::{Error, Match, Result, Selected, Written, content};

/// See [`super::execute`].
pub(super) fn execute(
    (spec, owner): (&CopySpec, Option<Owner>),
    source: &dyn Tree,
    selected: &Selected,
    chain: &[PathBuf],
    layer: &Path,
) -> Result<Written> {
    let rootfs = Merged::open(chain)?;
    let mut writer = LayerWriter::new(layer, &rootfs, owner.unwrap_or_default())?;
    writer.parents_mode(spec.parents_mode());
    let files = content::files(selected);
    let mut copy = Copy {
        spec,
        source,
        owner,
        writer,
        contents: vec![None; files.len()],
        waiting: HashMap::new(),
        next_file: 0,
        current: 0,
        bytes: 0,
        entries: 0,
    };
    copy.all(selected)?;
    let Copy { writer, contents, bytes, entries, .. } = copy;
    writer.finish()?;
    let contents = complete(source, &files, contents)?;
    let digest = content::digest_with(spec, source, selected, &contents)?;
    Ok(Written { bytes, entries, digest })
}

/// Reads the digests of files that a later file of the same name replaced before they were written.
fn complete(source: &dyn Tree, files: &[&Entry], contents: Vec<Option<Content>>) -> Result<Vec<Content>> {
    let missing: Vec<&Entry> =
        files.iter().zip(&contents).filter(|(_, content)| content.is_none()).map(|(file, _)| *file).collect();
    let read = content::digest_files(source, &missing)?;
    let mut read = read.into_iter().map(|digest| Content { digest, archive: false });
    Ok(contents.into_iter().filter_map(|content| content.or_else(|| read.next())).collect())
}

struct Copy<'a> {
    spec: &'a CopySpec,
    source: &'a dyn Tree,
    owner: Option<Owner>,
    writer: LayerWriter<'a>,
    /// One for each regular file of the selection.
    contents: Vec<Option<Content>>,
    /// Files that have a place but no bytes yet, by place.
    waiting: HashMap<Vec<u8>, Waiting<'a>>,
    next_file: usize,
    /// Which of the sources is being copied.
    current: usize,
    bytes: u64,
    entries: u64,
}

/// A file that has a place but no bytes yet.
struct Waiting<'a> {
    /// Which of the selection's files.
    index: usize,
    entry: &'a Entry,
    /// Which of the sources it is of: names of one file stay linked within one source, as in BuildKit.
    source: usize,
}

/// The place that the destination names.
struct Target {
    path: Vec<u8>,
    is_dir: bool,
}

impl<'a> Copy<'a> {
    fn all(&mut self, selected: &'a Selected) -> Result<()> {
        for (source, found) in selected.matches.iter().enumerate() {
            self.current = source;
            match found {
                Match::Directory { top, entries } => self.directory(top, entries)?,
                Match::File { name, entry, unpack } => self.file(name, entry, *unpack)?,
                Match::Inline { name, body } => self.inline(name.as_bytes(), body.as_bytes())?,
            }
        }
        self.flush()
    }

    /// Follows the destination's links in the image as it is by now.
    fn target(&self) -> Result<Target> {
        let text = self.spec.destination.as_bytes();
        let asks_for_dir = [&b"/"[..], b"/.", b"/.."].iter().any(|end| text.ends_with(end));
        let found = self.writer.resolve(&clean(text))?;
        let is_dir = found.entry.as_ref().is_some_and(Entry::is_dir);
        if asks_for_dir && !is_dir && found.entry.is_some() {
            return Err(TreeError::NotDirectory { path: show(&found.path) }.into());
        }
        Ok(Target { path: found.path, is_dir: is_dir || asks_for_dir })
    }

    /// Returns where a file called `name` goes.
    fn place(&self, name: &[u8]) -> Result<Vec<u8>> {
        let target = self.target()?;
        Ok(if target.is_dir { join(&target.path, name) } else { target.path })
    }

    fn attributes(&self, entry: &Entry) -> Attributes {
        let own =
            if self.spec.reset_owner { Owner::default() } else { Owner { uid: entry.uid, gid: entry.gid } };
        Attributes {
            mode: self.spec.mode(entry.mode, entry.is_dir()),
            owner: self.owner.unwrap_or(own),
            mtime: Some(entry.mtime),
            xattrs: Vec::new(),
        }
    }

    fn dir_attributes(&self, entry: &Entry) -> Result<Attributes> {
        Ok(Attributes { xattrs: self.source.xattrs(entry)?, ..self.attributes(entry) })
    }

    fn directory(&mut self, top: &'a Entry, entries: &'a [Entry]) -> Result<()> {
        let target = self.target()?.path;
        // The destination is never the source's directory, only where its content goes: it keeps its own mode
        // and owner, or is made as any missing directory. Directories inside take the source's.
        let attributes = Attributes {
            mode: self.spec.parents_mode(),
            owner: self.owner.unwrap_or_default(),
            mtime: Some(top.mtime),
            xattrs: Vec::new(),
        };
        self.writer.directory(&target, &attributes, false)?;
        self.entries += 1;
        for entry in entries {
            let place = Match::place(&target, top, entry);
            self.entries += 1;
            match entry.kind {
                Kind::Directory => {
                    let attributes = self.dir_attributes(entry)?;
                    match self.spec.parents && self.writer.entry(&place)?.is_some_and(|there| there.is_dir())
                    {
                        // As BuildKit does: what is made has all of the source, what is there takes the mode.
                        true => self.writer.change_mode(&place, attributes.mode)?,
                        false => self.writer.directory(&place, &attributes, true)?,
                    }
                }
                Kind::File => self.wait(place, entry)?,
                Kind::Symlink => {
                    let target = self.source.link_target(entry)?;
                    self.waiting.remove(&place);
                    self.writer.symlink(&place, &target, &self.attributes(entry))?;
                }
                Kind::CharDevice(..) | Kind::BlockDevice(..) if self.spec.reset_owner => {
                    return Err(TreeError::Device { path: show(&entry.path) }.into());
                }
                kind => {
                    self.waiting.remove(&place);
                    self.writer.node(&place, kind, &self.attributes(entry))?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], entry: &'a Entry, unpack: bool) -> Result<()> {
        self.entries += 1;
        if unpack && self.unpack(entry)? {
            return Ok(());
        }
        let place = self.place(name)?;
        self.wait(place, entry)
    }

    /// Gives a file its place; its bytes come with [`Copy::flush`].
    fn wait(&mut self, place: Vec<u8>, entry: &'a Entry) -> Result<()> {
        self.writer.make_room(&place)?;
        self.waiting.insert(place, Waiting { index: self.next_file, entry, source: self.current });
        self.next_file += 1;
        Ok(())
    }

    fn inline(&mut self, name: &[u8], body: &[u8]) -> Result<()> {
        let place = self.place(name)?;
        self.writer.make_room(&place)?;
        self.waiting.remove(&place);
        let mut file = self.writer.create(&place)?;
        file.write_all(body).map_err(|source| TreeError::io("write", &place, source))?;
        let attributes = Attributes {
            mode: self.spec.mode(0o644, false),
            owner: self.owner.unwrap_or_default(),
            ..Attributes::default()
        };
        set_attributes(&file, &place, &attributes)?;
        self.bytes += body.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Unpacks `entry` at the destination if it is an archive.
    fn unpack(&mut self, entry: &'a Entry) -> Result<bool> {
        if !content::is_archive(self.source, entry)? {
            return Ok(false);
        }
        self.flush()?;
        let target = self.target()?.path;
        // An archive's files have modes of their own: --chmod is not for them, nor for what they stand in.
        self.writer.parents_mode(PARENTS_MODE);
        self.writer.parents(&target)?;
        let file = self.source.open(entry)?;
        let xattrs = self.source.opened_xattrs(&file, entry)?;
        let mut reader = HashingReader { file, hasher: Hasher::new() };
        let options = archive::Options { owner: self.owner, devices: true };
        let unpacked = archive::unpack(&mut reader, &mut self.writer, &target, options)
            .map_err(|source| Error::Archive { path: show(&entry.path), source })?;
        self.writer.parents_mode(self.spec.parents_mode());
        self.bytes += unpacked.bytes;
        self.entries += unpacked.entries;
        let digest = content::file_digest(reader.hasher.finish(), &xattrs);
        self.contents[self.next_file] = Some(Content { digest, archive: true });
        self.next_file += 1;
        Ok(true)
    }

    /// Writes the files that wait, on several threads when they are many.
    fn flush(&mut self) -> Result<()> {
        let mut files: Vec<_> = self.waiting.drain().collect();
        files.sort_unstable_by(|left, right| compare(&left.0, &right.0));
        let (files, links) = split_links(files);
        let copier = Copier::default();
        let copied = {
            let this = &*self;
            content::in_parallel(&files, |(place, file), buffer| {
                this.copy_file(&copier, place, file.entry, buffer)
            })?
        };
        for ((_, file), copied) in files.iter().zip(copied) {
            self.bytes += copied.bytes;
            self.contents[file.index] = Some(Content { digest: copied.digest, archive: false });
        }
        for (place, file, first) in links {
            let (existing, first) = &files[first];
            self.writer.hard_link(&place, existing)?;
            self.contents[file.index] = self.contents[first.index];
        }
        Ok(())
    }

    fn copy_file(
        &self,
        copier: &Copier,
        place: &[u8],
        entry: &Entry,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<Copied, TreeError> {
        let (above, name) = split_last(place);
        let file = create_in(&self.writer.open_dir(above)?, place, name)?;
        let mut copied = copier.copy(self.source, entry, &file, buffer)?;
        let xattrs = std::mem::take(&mut copied.xattrs);
        set_attributes(&file, place, &Attributes { xattrs, ..self.attributes(entry) })?;
        Ok(copied)
    }
}

/// A further name of a file: its place, itself, and which of the files it is a name of.
type Link<'a> = (Vec<u8>, Waiting<'a>, usize);

/// Parts `files` into those to be copied and further names of those.
fn split_links(files: Vec<(Vec<u8>, Waiting<'_>)>) -> (Vec<(Vec<u8>, Waiting<'_>)>, Vec<Link<'_>>) {
    let (mut copied, mut links) = (Vec::with_capacity(files.len()), Vec::new());
    let mut seen = HashMap::with_capacity(files.len());
    for (place, file) in files {
        match seen.entry((file.source, file.entry.dev, file.entry.ino)) {
            hash_map::Entry::Occupied(first) => links.push((place, file, *first.get())),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(copied.len());
                copied.push((place, file));
            }
        }
    }
    (copied, links)
}

/// Hashes a file while it is unpacked: the digest is of the very bytes that were unpacked.
struct HashingReader {
    file: File,
    hasher: Hasher,
}

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
