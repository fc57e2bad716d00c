//! What a copy has put into its layer, name by name.

use kiln_cache::{Digest, FileEntry, FileKind};

use crate::build::tree::{Attributes, Entry, Kind, compare, inner};

/// One name.
pub(super) struct Listed<'a> {
    pub(super) place: Vec<u8>,
    pub(super) thing: Thing<'a>,
    /// The layer has the same file under another name, too.
    pub(super) linked: bool,
    /// It has extended attributes.
    pub(super) attributed: bool,
}

/// What stands there.
pub(super) enum Thing<'a> {
    File(Source<'a>),
    /// An archive that was unpacked there; not a name of the layer.
    Archive(Source<'a>),
    Symlink(&'a Entry, Box<[u8]>),
    /// A directory, pipe or device.
    Other(&'a Entry),
    Inline {
        name: &'a str,
        digest: Digest,
        attributes: Attributes,
        size: u64,
    },
}

/// A regular file of the selection.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) entry: &'a Entry,
    /// Which of the selection's files.
    pub(super) index: usize,
    /// Which of the sources it is of: names of one file stay linked within one source, as in BuildKit.
    pub(super) of: usize,
    /// It has its bytes.
    pub(super) written: bool,
}

impl<'a> Listed<'a> {
    pub(super) fn new(place: Vec<u8>, thing: Thing<'a>) -> Self {
        Self { place, thing, linked: false, attributed: false }
    }

    /// The file, if its bytes are still to come.
    pub(super) fn waiting(&self) -> Option<Source<'a>> {
        match self.thing {
            Thing::File(source) if !source.written => Some(source),
            _ => None,
        }
    }

    /// `attributes` are those that its entry gets, `digest_of` knows the digests of the selection's files.
    pub(super) fn describe(
        &self,
        attributes: impl Fn(&Entry) -> Attributes,
        digest_of: impl Fn(usize) -> Option<Digest>,
    ) -> FileEntry {
        let (source, attributes) = match &self.thing {
            Thing::Inline { name, attributes, .. } => (name.as_bytes(), attributes.clone()),
            Thing::File(Source { entry, .. }) | Thing::Archive(Source { entry, .. }) => {
                (inner(&entry.path), attributes(entry))
            }
            Thing::Symlink(entry, _) | Thing::Other(entry) => (inner(&entry.path), attributes(entry)),
        };
        let (kind, size, digest, target) = match &self.thing {
            Thing::File(file) => (FileKind::File, file.entry.size, digest_of(file.index), &[][..]),
            Thing::Archive(file) => (FileKind::Archive, file.entry.size, digest_of(file.index), &[][..]),
            Thing::Symlink(_, target) => (FileKind::Symlink, 0, None, &target[..]),
            Thing::Other(entry) if entry.kind == Kind::Directory => (FileKind::Directory, 0, None, &[][..]),
            Thing::Other(_) => (FileKind::Special, 0, None, &[][..]),
            Thing::Inline { digest, size, .. } => (FileKind::File, *size, Some(*digest), &[][..]),
        };
        FileEntry {
            source: source.to_vec(),
            place: self.place.clone(),
            kind,
            mode: attributes.mode & 0o7777,
            uid: attributes.owner.uid,
            gid: attributes.owner.gid,
            mtime: attributes.mtime.unwrap_or_default(),
            size,
            target: target.to_vec(),
            digest,
            attributed: self.attributed,
            linked: self.linked,
        }
    }
}

/// Sorts by place; of two things in one place the one that came later stays.
pub(super) fn settle(listed: &mut Vec<Listed<'_>>) {
    listed.sort_by(|left, right| compare(&left.place, &right.place));
    // `dedup_by` drops the second of two; what came later is moved to the first.
    listed.dedup_by(|later, first| {
        let same = later.place == first.place && !matches!(first.thing, Thing::Archive(_));
        if same {
            std::mem::swap(later, first);
        }
        same
    });
}
