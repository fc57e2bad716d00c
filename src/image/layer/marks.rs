//! Marks in a layer's tar: states of its digest, from which the digest of a similar layer is computed on.
//!
//! A copy that runs again takes most files over from the layer that it made before, as further names of the same
//! inodes. Up to the first thing that differs, the tars of the two are the same, and nothing has to be read again.
//! To find that place, a walk sums up what the tar's bytes follow from: paths and attributes, and of a file the
//! inode in the place of its content. Where the sums of two layers are the same, so are the states.
//!
//! An inode's number stands for its content only while both layers are there, unchanged. So marks name the folder
//! that they are of: in a store that was copied to other inodes they mean nothing.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::iter::Peekable;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kiln_cache::{Digest, Hasher, StreamHasher};
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::error::LayerError;
use super::pack::{Packer, TAR_VERSION};
use super::times::Times;
use super::walk::{Markers, Node, Roots, walk_in};

/// A mark stands after so much of the tar...
const BYTES: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// ...or so many names, whichever comes first: what lies between two marks is read once more, or kept in memory.
const NAMES: u64 = if cfg!(test) { 3 } else { 512 };

/// The marks of one layer's tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    version: u32,
    /// [`Times::rule`].
    rule: i64,
    /// Device and inode of the layer's folder.
    folder: (u64, u64),
    marks: Vec<Mark>,
}

/// A place before some name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// How many names come before it.
    names: u64,
    /// What they sum up to.
    sum: Digest,
    /// The bytes of the tar before it.
    bytes: u64,
    /// [`Hasher::state`] there.
    state: Vec<u8>,
}

impl Marks {
    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Returns those that are of the layer in `dir`, by this rule of times.
    fn of(&self, dir: &Path, times: Times) -> &[Mark] {
        let is_right = (self.version, self.rule) == (TAR_VERSION, times.rule())
            && identity(dir).is_ok_and(|folder| folder == self.folder)
            && self.marks.iter().all(|mark| Hasher::resume(&mark.state).is_some());
        if is_right { &self.marks } else { &[] }
    }
}

fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(dir).map(|found| (found.dev(), found.ino()))
}

/// Returns the digest and the length of the canonical tar of `dir`, and marks in it.
///
/// `previous` is a layer that may share files with this one, with its marks; it must stay until this returns.
pub fn diff_id_after(
    dir: &Path,
    times: Times,
    previous: Option<(&Path, &Marks)>,
) -> Result<(Digest, u64, Marks), LayerError> {
    let old = previous.map_or(&[][..], |(dir, marks)| marks.of(dir, times));
    let hasher = RefCell::new(StreamHasher::new());
    let (rules, mut out) = ([times], Shared(&hasher));
    let roots = Roots::open(&[dir.to_owned()])?;
    let mut summing = Summing {
        roots: &roots,
        times,
        hasher: &hasher,
        packer: Packer::new(&mut out, &rules),
        names: 0,
        sum: Hasher::new(),
        old: old.iter().peekable(),
        at_mark: Hasher::new(),
        pending: Vec::new(),
        is_same: true,
        marks: Vec::new(),
    };
    walk_in(&roots, Markers::Show, &mut |node| summing.visit(node))?;
    if summing.is_same {
        summing.part()?;
    }
    let Summing { packer, mut marks, .. } = summing;
    packer.finish()?;
    let (digest, bytes, states) = hasher.into_inner().finish_marked();
    let fresh = marks.len() - states.len();
    for (mark, state) in marks[fresh..].iter_mut().zip(states) {
        mark.state = state;
    }
    let folder = identity(dir).map_err(|error| LayerError::walk(b"", error))?;
    Ok((digest, bytes, Marks { version: TAR_VERSION, rule: times.rule(), folder, marks }))
}

/// The hasher is the tar's output, and is asked between two names.
struct Shared<'a>(&'a RefCell<StreamHasher>);

impl io::Write for Shared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Summing<'a> {
    roots: &'a Roots,
    times: Times,
    hasher: &'a RefCell<StreamHasher>,
    packer: Packer<'a>,
    /// How many names were summed up, and what to.
    names: u64,
    sum: Hasher,
    /// Marks of the layer before that are still ahead.
    old: Peekable<std::slice::Iter<'a, Mark>>,
    /// The sum at the last mark that both layers have.
    at_mark: Hasher,
    /// The names since then.
    pending: Vec<(Vec<u8>, Stat)>,
    /// Nothing differs so far, and nothing was hashed.
    is_same: bool,
    /// This layer's marks; the state of a fresh one comes at the end.
    marks: Vec<Mark>,
}

impl Summing<'_> {
    fn visit(&mut self, node: &Node<'_>) -> Result<(), LayerError> {
        if self.is_same {
            let mark = self.old.next_if(|mark| mark.names == self.names);
            match mark {
                Some(mark) if mark.sum == self.sum.clone().finish() => self.meet(mark),
                Some(_) => self.part()?,
                None if self.old.peek().is_none() => self.part()?,
                None => {}
            }
        }
        if !self.is_same {
            return self.add(node);
        }
        self.sum_up(node)?;
        self.pending.push((node.path.to_vec(), node.stat));
        Ok(())
    }

    /// Both layers have this mark.
    fn meet(&mut self, mark: &Mark) {
        for (path, stat) in self.pending.drain(..) {
            self.packer.pass(&self.roots.node(&path, stat));
        }
        self.at_mark = self.sum.clone();
        self.marks.push(mark.clone());
    }

    /// From the last mark that both have, this layer is hashed.
    fn part(&mut self) -> Result<(), LayerError> {
        self.is_same = false;
        self.names = 0;
        if let Some(mark) = self.marks.last() {
            let hasher = Hasher::resume(&mark.state).expect("`Marks::of` has looked at the states");
            *self.hasher.borrow_mut() = StreamHasher::resume(hasher, mark.bytes);
            self.names = mark.names;
        }
        self.sum = self.at_mark.clone();
        for (path, stat) in std::mem::take(&mut self.pending) {
            self.add(&self.roots.node(&path, stat))?;
        }
        Ok(())
    }

    /// Hashes what the tar says of `node`.
    fn add(&mut self, node: &Node<'_>) -> Result<(), LayerError> {
        let bytes = self.hasher.borrow().bytes();
        let (last_names, last_bytes) = self.marks.last().map_or((0, 0), |mark| (mark.names, mark.bytes));
        if self.names - last_names >= NAMES || bytes - last_bytes >= BYTES {
            self.hasher.borrow_mut().mark();
            let sum = self.sum.clone().finish();
            self.marks.push(Mark { names: self.names, sum, bytes, state: Vec::new() });
        }
        self.sum_up(node)?;
        self.packer.add(node, Markers::Show)
    }

    fn sum_up(&mut self, node: &Node<'_>) -> Result<(), LayerError> {
        self.names += 1;
        let (stat, kind) = (&node.stat, node.file_type());
        self.bytes(node.path);
        self.numbers(&[stat.st_mode.into(), stat.st_uid.into(), stat.st_gid.into(), stat.st_rdev]);
        self.numbers(&[self.times.of(stat.st_mtime).cast_unsigned()]);
        match kind {
            FileType::Directory => {
                let attributes = node.folder_xattrs()?;
                self.numbers(&[attributes.opaque.into(), attributes.kept.len() as u64]);
                for (name, value) in &attributes.kept {
                    self.bytes(name);
                    self.bytes(value);
                }
                return Ok(());
            }
            FileType::RegularFile => self.numbers(&[stat.st_size.cast_unsigned()]),
            FileType::Symlink => self.bytes(&node.link_target()?),
            _ => {}
        }
        // Other things than files are made anew by each copy. Those with several names can only be told by the inode.
        if kind == FileType::RegularFile || stat.st_nlink > 1 {
            self.numbers(&[stat.st_dev, stat.st_ino]);
        }
        Ok(())
    }

    /// Length first, so that no two lists of fields look alike.
    fn bytes(&mut self, bytes: &[u8]) {
        self.numbers(&[bytes.len() as u64]);
        self.sum.update(bytes);
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.sum.update(&number.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::pack::diff_id;
    use super::*;

    const KEPT: Times = Times::Kept;

    /// A layer of twelve files, one of them with two names, and one that takes over all but `changed`.
    struct Two {
        _folder: TempDir,
        first: PathBuf,
        second: PathBuf,
        marks: Marks,
    }

    impl Two {
        fn new(changed: &str) -> Self {
            let folder = TempDir::new().unwrap();
            let (first, second) = (folder.path().join("first"), folder.path().join("second"));
            for layer in [&first, &second] {
                fs::create_dir_all(layer.join("d")).unwrap();
                symlink("f1", layer.join("c")).unwrap();
                fs::File::open(layer).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            let names = (0..12).map(|number| format!("{}f{number:02}", if number < 6 { "d/" } else { "" }));
            for name in names {
                fs::write(first.join(&name), format!("{name} {}", "x".repeat(3000))).unwrap();
                match name == changed {
                    true => fs::write(second.join(&name), format!("{name} {}", "y".repeat(3000))).unwrap(),
                    false => fs::hard_link(first.join(&name), second.join(&name)).unwrap(),
                }
                let file = fs::File::open(second.join(&name)).unwrap();
                file.set_modified(fs::metadata(first.join(&name)).unwrap().modified().unwrap()).unwrap();
            }
            for layer in [&first, &second] {
                for dir in [layer.join("d"), layer.clone()] {
                    fs::File::open(dir).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
                }
                let link = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
                let times = rustix::fs::Timestamps { last_access: link, last_modification: link };
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(rustix::fs::CWD, layer.join("c"), &times, flags).unwrap();
            }
            let (digest, bytes, marks) = diff_id_after(&first, KEPT, None).unwrap();
            assert_eq!((digest, bytes), diff_id(&first, KEPT).unwrap());
            assert!(marks.marks.len() > 3, "{marks:?}");
            Self { _folder: folder, first, second, marks }
        }

        /// Hashes the second layer after the first, and tells how many marks they have in common.
        fn hash(&self) -> usize {
            let (digest, bytes, marks) =
                diff_id_after(&self.second, KEPT, Some((&self.first, &self.marks))).unwrap();
            assert_eq!((digest, bytes), diff_id(&self.second, KEPT).unwrap());
            assert_eq!(marks.folder, identity(&self.second).unwrap());
            marks.marks.iter().zip(&self.marks.marks).filter(|(new, old)| new == old).count()
        }
    }

    #[test]
    fn what_is_the_same_up_to_a_mark_is_not_hashed_again() {
        let all = Two::new("").hash();
        let (late, early) = (Two::new("f11").hash(), Two::new("d/f01").hash());
        assert_eq!(all, Two::new("").marks.marks.len());
        assert!(all >= late && late > early, "{all} {late} {early}");
        assert_eq!(Two::new("d/f00").hash(), 1, "only the folders come before it");
        // A state that isn't that of the same bytes would show.
        let mut two = Two::new("f11");
        let state = Hasher::new().state();
        two.marks.marks.iter_mut().for_each(|mark| mark.state.clone_from(&state));
        let (digest, ..) = diff_id_after(&two.second, KEPT, Some((&two.first, &two.marks))).unwrap();
        assert_ne!(digest, diff_id(&two.second, KEPT).unwrap().0);
    }

    #[test]
    fn marks_of_another_layer_rule_or_version_are_not_believed() {
        let two = Two::new("f11");
        let wrong = [
            Marks { rule: 3, ..two.marks.clone() },
            Marks { version: 0, ..two.marks.clone() },
            Marks { folder: (two.marks.folder.0, two.marks.folder.1 + 1), ..two.marks.clone() },
            Marks { marks: vec![Mark { state: vec![1], ..two.marks.marks[0].clone() }], ..two.marks.clone() },
        ];
        for marks in wrong {
            assert!(marks.of(&two.first, KEPT).is_empty(), "{marks:?}");
        }
        assert!(!two.marks.of(&two.first, KEPT).is_empty());
    }

    #[test]
    fn names_of_one_file_stay_together_across_a_mark() {
        let two = Two::new("f11");
        for layer in [&two.first, &two.second] {
            fs::hard_link(layer.join("d/f00"), layer.join("zz")).unwrap();
        }
        let (digest, bytes, _) = diff_id_after(&two.second, KEPT, Some((&two.first, &two.marks))).unwrap();
        assert_eq!((digest, bytes), diff_id(&two.second, KEPT).unwrap());
    }
}
