//! WORKDIR: a directory that exists.

use std::path::{Path, PathBuf};

use crate::build::graph::MkdirSpec;
use crate::build::tree::{
    Attributes, Entry, Error, LayerWriter, Merged, Result, clean, lookup_owner, resolve, show,
};

/// Tells whether the directory of `spec` exists in `chain` (folders in overlay form, base first): there is
/// nothing to do then, and no layer to make.
///
/// An error if something that is no directory stands there.
pub fn exists(spec: &MkdirSpec, chain: &[PathBuf]) -> Result<bool> {
    let found = resolve(&Merged::open(chain)?, &clean(spec.path.as_bytes()))?;
    match found.entry {
        Some(entry) if !entry.is_dir() => Err(Error::NotDirectory { path: show(&found.path) }),
        entry => Ok(entry.as_ref().is_some_and(Entry::is_dir)),
    }
}

/// Makes the directory and those missing above it in the empty folder `layer`, on top of `chain`.
///
/// What is made has mode 0755 and belongs to the user of `spec`. Returns false, and writes nothing, if it exists.
pub fn execute(spec: &MkdirSpec, chain: &[PathBuf], layer: &Path) -> Result<bool> {
    if exists(spec, chain)? {
        return Ok(false);
    }
    let rootfs = Merged::open(chain)?;
    let owner = lookup_owner(&rootfs, &spec.user)?;
    let mut writer = LayerWriter::new(layer, &rootfs, owner)?;
    let path = writer.resolve(&clean(spec.path.as_bytes()))?.path;
    let attributes = Attributes { mode: 0o755, owner, ..Attributes::default() };
    writer.directory(&path, &attributes, false)?;
    writer.finish()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::build::tree::merged_tests::{is_root, layer};

    #[test]
    fn missing_directories_belong_to_the_user_and_existing_ones_stay() {
        if !is_root("missing_directories_belong_to_the_user_and_existing_ones_stay") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let chain = [layer(&folder.path().join("base"), &["home/", "link->home", "file"])];
        let spec = |path: &str| MkdirSpec { path: path.into(), user: "12:13".into() };
        let run = |path: &str, name: &str| {
            let out = folder.path().join(name);
            fs::create_dir(&out).unwrap();
            execute(&spec(path), &chain, &out).map(|made| (made, out))
        };
        let (made, out) = run("/link/app/src", "one").unwrap();
        let stat = |name: &str| {
            let stat = fs::metadata(out.join(name)).unwrap();
            (stat.uid(), stat.gid(), stat.mode() & 0o7777)
        };
        assert!(made);
        assert_eq!(stat("home/app"), (12, 13, 0o755));
        assert_eq!(stat("home/app/src"), (12, 13, 0o755));
        assert_eq!(stat("home").0, 0);

        let (made, out) = run("/link", "two").unwrap();
        assert!(!made && fs::read_dir(out).unwrap().next().is_none());
        assert!(exists(&spec("/"), &chain).unwrap());
        assert_eq!(run("/file", "three").unwrap_err().to_string(), "`/file` is not a directory");
        assert_eq!(run("/file/x", "four").unwrap_err().to_string(), "`/file` is not a directory");
    }
}
