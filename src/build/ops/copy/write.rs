//! Writing what was selected into a fresh layer.

use std::collections::{HashMap, hash_map};
use std::fs::File;
use std::io::{Read, Write};

use kiln_cache::{Digest, FileEntry, Hasher};

use crate::build::graph::{CopySpec, PARENTS_MODE};
use crate::build::tree::archive;
use crate::build::tree::{
    Attributes, Entry, Error as TreeError, Kind, LastDir, LayerWriter, Merged, Owner, Time, Tree, Xattrs,
    clean, create_in, join, set_attributes, show, split_last,
};

use super::content::Content;
use super::listing::{Listed, Source, Thing, settle};
use super::transfer::{Copied, Copier};
use super::{Error, Layer, Match, Previous, Result, Selected, Written, content};

/// See [`super::execute`].
pub(super) fn execute(
    (spec, owner): (&CopySpec, Option<Owner>),
    source: &dyn Tree,
    selected: &Selected,
    layer: Layer<'_>,
) -> Result<Written> {
    let rootfs = Merged::open(layer.chain)?;
    let mut writer = LayerWriter::new(layer.folder, &rootfs, owner.unwrap_or_default())?;
    writer.parents_mode(spec.parents_mode());
    let files = content::files(selected);
    let mut copy = Copy {
        spec,
        source,
        owner,
        writer,
        previous: layer.previous,
        contents: vec![None; files.len()],
        listed: Vec::with_capacity(files.len()),
        next_file: 0,
        current: 0,
        bytes: 0,
        shared_bytes: 0,
        entries: 0,
    };
    copy.all(selected)?;
    copy.list(layer.list)?;
    let Copy { writer, contents, bytes, shared_bytes, entries, .. } = copy;
    writer.finish()?;
    let contents = complete(source, &files, contents)?;
    let digest = content::digest_with(spec, source, selected, &contents)?;
    Ok(Written { bytes, shared_bytes, entries, digest })
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
    previous: Option<Previous>,
    /// One for each regular file of the selection.
    contents: Vec<Option<Content>>,
    /// What has a place; files get their bytes with [`Copy::flush`].
    listed: Vec<Listed<'a>>,
    next_file: usize,
    /// Which of the sources is being copied.
    current: usize,
    bytes: u64,
    shared_bytes: u64,
    entries: u64,
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
                Match::Inline { name, body } => self.inline(name, body.as_bytes())?,
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
                    self.listed.push(Listed::new(place, Thing::Other(entry)));
                }
                Kind::File => self.wait(place, entry)?,
                Kind::Symlink => {
                    let target = self.source.link_target(entry)?;
                    self.writer.symlink(&place, &target, &self.attributes(entry))?;
                    self.listed.push(Listed::new(place, Thing::Symlink(entry, target.into())));
                }
                Kind::CharDevice(..) | Kind::BlockDevice(..) if self.spec.reset_owner => {
                    return Err(TreeError::Device { path: show(&entry.path) }.into());
                }
                kind => {
                    self.writer.node(&place, kind, &self.attributes(entry))?;
                    self.listed.push(Listed::new(place, Thing::Other(entry)));
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
        let file = self.take_source(entry, false);
        self.listed.push(Listed::new(place, Thing::File(file)));
        Ok(())
    }

    /// Counts the next file of the selection, which is `entry`.
    fn take_source(&mut self, entry: &'a Entry, written: bool) -> Source<'a> {
        self.next_file += 1;
        Source { entry, index: self.next_file - 1, of: self.current, written }
    }

    fn inline(&mut self, name: &'a str, body: &[u8]) -> Result<()> {
        let place = self.place(name.as_bytes())?;
        self.writer.make_room(&place)?;
        let mut file = self.writer.create(&place)?;
        file.write_all(body).map_err(|source| TreeError::io("write", &place, source))?;
        let mut attributes = Attributes {
            mode: self.spec.mode(0o644, false),
            owner: self.owner.unwrap_or_default(),
            ..Attributes::default()
        };
        set_attributes(&file, &place, &attributes)?;
        attributes.mtime = written_at(&file, &place)?;
        let size = body.len() as u64;
        self.bytes += size;
        self.entries += 1;
        let inline = Thing::Inline { name, digest: Digest::of(body), attributes, size };
        self.listed.push(Listed::new(place, inline));
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
        let file = self.take_source(entry, true);
        self.contents[file.index] = Some(Content { digest, archive: true });
        let listed = Listed { attributed: !xattrs.is_empty(), ..Listed::new(target, Thing::Archive(file)) };
        self.listed.push(listed);
        Ok(true)
    }

    /// Writes the files that wait, on several threads when they are many.
    fn flush(&mut self) -> Result<()> {
        settle(&mut self.listed);
        let mut listed = std::mem::take(&mut self.listed);
        let (mut jobs, links) = split_links(&mut listed);
        self.take_over(&mut jobs, &listed);
        let copier = Copier::default();
        // Two threads that make names in one directory would wait for each other at each of them.
        let above = |job: &Job<'_>| split_last(&listed[job.number].place).0;
        let copied = content::in_parallel(
            &jobs,
            |left, right| above(left) == above(right),
            |job, hands: &mut Hands| self.write_file(&copier, &listed[job.number].place, job, hands),
        )?;
        for (job, copied) in jobs.iter().zip(copied) {
            self.bytes += copied.bytes;
            self.shared_bytes += if copied.is_shared { copied.bytes } else { 0 };
            self.contents[job.source.index] = Some(Content { digest: copied.digest, archive: false });
            listed[job.number].attributed = !copied.xattrs.is_empty();
        }
        for (number, source, first) in links {
            let first = &jobs[first];
            self.writer.hard_link(&listed[number].place, &listed[first.number].place)?;
            self.contents[source.index] = self.contents[first.source.index];
            listed[number].attributed = listed[first.number].attributed;
        }
        for one in &mut listed {
            if let Thing::File(source) = &mut one.thing {
                source.written = true;
            }
        }
        self.listed = listed;
        Ok(())
    }

    /// Finds the files that the previous layer has just as they are to be.
    fn take_over(&mut self, jobs: &mut [Job<'_>], listed: &[Listed<'_>]) {
        let Some(mut previous) = self.previous.take() else { return };
        for job in jobs.iter_mut().filter(|job| !listed[job.number].linked) {
            let entry = job.source.entry;
            job.taken = self
                .source
                .known_digest(entry)
                .filter(|digest| previous.has(&listed[job.number].place, digest, &self.attributes(entry)));
        }
        self.previous = Some(previous);
    }

    fn write_file(
        &self,
        copier: &Copier,
        place: &[u8],
        job: &Job<'_>,
        hands: &mut Hands,
    ) -> std::result::Result<Copied, TreeError> {
        self.source.ensure_wanted()?;
        let (entry, (above, name)) = (job.source.entry, split_last(place));
        let dir = hands.to.open(self.writer.root(), above)?;
        if let (Some(digest), Some(previous)) = (job.taken, &self.previous)
            && previous.link(&mut hands.from, place, (dir, name))?
        {
            return Ok(Copied { digest, bytes: entry.size, is_shared: true, xattrs: Xattrs::new() });
        }
        let mut attributes = self.attributes(entry);
        let file = create_in(dir, place, name, attributes.mode)?;
        let copied = copier.copy(self.source, entry, &file, &mut hands.buffer)?;
        attributes.xattrs.clone_from(&copied.xattrs);
        set_attributes(&file, place, &attributes)?;
        Ok(copied)
    }

    /// Hands over what is in the layer.
    fn list(
        &self,
        take: &mut dyn FnMut(&mut dyn Iterator<Item = FileEntry>) -> kiln_cache::Result<()>,
    ) -> Result<()> {
        let digest_of = |index: usize| self.contents[index].map(|content| content.digest);
        let mut entries =
            self.listed.iter().map(|one| one.describe(|entry| self.attributes(entry), digest_of));
        Ok(take(&mut entries)?)
    }
}

/// When the file `place` was written.
fn written_at(file: &File, place: &[u8]) -> Result<Option<Time>> {
    let stat = rustix::fs::fstat(file).map_err(|source| TreeError::io("stat", place, source))?;
    Ok(Some((stat.st_mtime, stat.st_mtime_nsec as u32)))
}

/// What a thread keeps from one file to the next.
#[derive(Default)]
struct Hands {
    buffer: Vec<u8>,
    to: LastDir,
    from: LastDir,
}

/// A file to be written.
struct Job<'a> {
    /// Which of the listed names.
    number: usize,
    source: Source<'a>,
    /// Its digest, if the previous layer has the file.
    taken: Option<Digest>,
}

/// A further name of a file: which of the listed names, which file, and which of the jobs writes it.
type Link<'a> = (usize, Source<'a>, usize);

/// Parts the files that wait into those to be written and further names of those.
fn split_links<'a>(listed: &mut [Listed<'a>]) -> (Vec<Job<'a>>, Vec<Link<'a>>) {
    let (mut jobs, mut links) = (Vec::with_capacity(listed.len()), Vec::new());
    let mut seen = HashMap::new();
    for number in 0..listed.len() {
        let Some(source) = listed[number].waiting() else { continue };
        let first = match source.entry.names {
            0 | 1 => None,
            _ => match seen.entry((source.of, source.entry.dev, source.entry.ino)) {
                hash_map::Entry::Occupied(first) => Some(*first.get()),
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(jobs.len());
                    None
                }
            },
        };
        match first {
            Some(first) => {
                let Job { number: of_first, .. } = jobs[first];
                (listed[of_first].linked, listed[number].linked) = (true, true);
                links.push((number, source, first));
            }
            None => jobs.push(Job { number, source, taken: None }),
        }
    }
    (jobs, links)
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
