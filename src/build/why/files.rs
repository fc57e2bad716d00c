//! Two layers of copied files compared by the names of their files.

use std::cmp::Ordering;

use kiln_cache::{FileEntry, FileKind, SnapshotId, Store};

use crate::api::{FileAspect, FileChange, MissReason};

/// Files that are named; the rest is counted.
const MOST_NAMED: usize = 3;

/// By which of its paths a file is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Named {
    /// Where it came from.
    #[default]
    BySource,
    /// Where it is in the layer: what is downloaded has no path of its own.
    ByPlace,
}

/// Tells which files of the layer `now` aren't as in the layer `before`; none where no list tells.
pub(super) fn changed(
    before: Option<&SnapshotId>,
    now: Option<&SnapshotId>,
    by: Named,
    store: &Store,
) -> MissReason {
    let list = |id: Option<&SnapshotId>| store.file_list(id?).ok().flatten();
    let mut changes = Changes { by, ..Changes::default() };
    if let (Some(before), Some(now)) = (list(before), list(now)) {
        // A list that is damaged ends early: what was found until then holds.
        changes.compare(before.map_while(Result::ok), now.map_while(Result::ok));
    }
    MissReason::Files { changed: changes.named, more: changes.more }
}

#[derive(Debug, Default)]
struct Changes {
    by: Named,
    named: Vec<FileChange>,
    more: u64,
    /// The directory that came or went last: what is in it came or went with it.
    whole: Option<Vec<u8>>,
}

impl Changes {
    /// Walks two lists, each sorted by place, side by side.
    fn compare(
        &mut self,
        mut before: impl Iterator<Item = FileEntry>,
        mut now: impl Iterator<Item = FileEntry>,
    ) {
        let (mut old, mut new) = (before.next(), now.next());
        loop {
            let order = match (&old, &new) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => in_order(&old.place, &new.place),
            };
            match order {
                Ordering::Less => {
                    self.add_whole(old, FileAspect::Removed);
                    old = before.next();
                }
                Ordering::Greater => {
                    self.add_whole(new, FileAspect::Added);
                    new = now.next();
                }
                Ordering::Equal => {
                    if let (Some(old), Some(new)) = (&old, &new)
                        && let Some(what) = aspect(old, new)
                    {
                        self.add(new, what);
                    }
                    (old, new) = (before.next(), now.next());
                }
            }
        }
    }

    /// Counts a file that came or went, unless its directory did.
    fn add_whole(&mut self, entry: Option<FileEntry>, what: FileAspect) {
        let Some(entry) = entry else { return };
        if self.whole.as_ref().is_some_and(|folder| is_inside(&entry.place, folder)) {
            return;
        }
        self.add(&entry, what);
        self.whole = (entry.kind == FileKind::Directory).then_some(entry.place);
    }

    fn add(&mut self, entry: &FileEntry, what: FileAspect) {
        if self.named.len() == MOST_NAMED {
            self.more += 1;
            return;
        }
        // What is made above a destination has no source.
        let by_place = self.by == Named::ByPlace || entry.source.is_empty();
        let path = if by_place { &entry.place } else { &entry.source };
        self.named.push(FileChange { path: String::from_utf8_lossy(path).into_owned(), what });
    }
}

/// What is different of one file; times don't count, as in keys.
fn aspect(before: &FileEntry, now: &FileEntry) -> Option<FileAspect> {
    let differs = [
        (before.kind != now.kind, FileAspect::Kind),
        (before.attributed != now.attributed, FileAspect::Attributes),
        (before.digest != now.digest, FileAspect::Content),
        (before.target != now.target, FileAspect::Target),
        (before.mode != now.mode, FileAspect::Mode),
        ((before.uid, before.gid) != (now.uid, now.gid), FileAspect::Owner),
    ];
    differs.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what)
}

/// The order of lists: part by part.
fn in_order(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |path| <[u8]>::split(path, |byte| *byte == b'/');
    parts(one).cmp(parts(other))
}

fn is_inside(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use kiln_cache::Digest;

    use super::*;

    fn file(place: &str) -> FileEntry {
        FileEntry {
            source: format!("src/{place}").into_bytes(),
            place: place.as_bytes().to_vec(),
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (1, 2),
            size: 3,
            target: Vec::new(),
            digest: Some(Digest::of("x")),
            attributed: false,
            linked: false,
        }
    }

    fn folder(place: &str) -> FileEntry {
        FileEntry { kind: FileKind::Directory, digest: None, ..file(place) }
    }

    fn changes(before: Vec<FileEntry>, now: Vec<FileEntry>) -> (Vec<(String, FileAspect)>, u64) {
        let mut changes = Changes::default();
        changes.compare(before.into_iter(), now.into_iter());
        (changes.named.into_iter().map(|change| (change.path, change.what)).collect(), changes.more)
    }

    #[test]
    fn each_aspect_of_a_file_is_told() {
        let other = |what| {
            let mut file = file("f");
            match what {
                FileAspect::Content => file.digest = Some(Digest::of("y")),
                FileAspect::Mode => file.mode = 0o755,
                FileAspect::Owner => file.gid = 7,
                FileAspect::Kind => file.kind = FileKind::Symlink,
                FileAspect::Target => file.target = b"t".to_vec(),
                FileAspect::Attributes => file.attributed = true,
                FileAspect::Added | FileAspect::Removed => {}
            }
            file
        };
        use FileAspect::{Added, Attributes, Content, Kind, Mode, Owner, Removed, Target};
        for what in [Content, Mode, Owner, Kind, Target, Attributes] {
            let expected = (vec![("src/f".to_owned(), what)], 0);
            assert_eq!(changes(vec![file("f")], vec![other(what)]), expected);
        }
        assert_eq!(changes(vec![], vec![file("f")]).0, [("src/f".to_owned(), Added)]);
        assert_eq!(changes(vec![file("f")], vec![]).0, [("src/f".to_owned(), Removed)]);
        let later = FileEntry { mtime: (9, 9), linked: true, ..file("f") };
        assert_eq!(changes(vec![file("f")], vec![later]), (vec![], 0));
    }

    #[test]
    fn a_folder_that_comes_or_goes_is_one_change_and_three_are_named() {
        // `a-b` stands after all that is in `a`, though `-` is less than `/`.
        let before = vec![folder("a"), file("a/x"), file("a-b")];
        let now = vec![file("a-b"), folder("n"), file("n/1"), file("n/2"), file("z")];
        let named =
            [("src/a", FileAspect::Removed), ("src/n", FileAspect::Added), ("src/z", FileAspect::Added)];
        assert_eq!(changes(before, now), (named.map(|(path, what)| (path.to_owned(), what)).to_vec(), 0));
        let many = (0..20).map(|number| file(&format!("{number:02}"))).collect();
        let (named, more) = changes(vec![], many);
        assert_eq!((named.len(), more), (3, 17));
    }
}
