//! Whether the programs of a rootfs are what they are called.
//!
//! The text of a step tells that `mkdir` reads no ARG (see `graph::observe`); a script of that name might. So
//! everything that the names could stand for has to be a compiled program with the right name.

use std::io::Read;
use std::path::PathBuf;

use kiln_cache::Store;
use kiln_cache::key::KeyBuilder;

use super::transfer::folders;
use crate::build::graph::Relied;
use crate::build::solve::Outcome;
use crate::build::tree::{Kind, Merged, Result, join, resolve, split_last};

/// The first bytes of a compiled program.
const ELF: &[u8] = b"\x7fELF";

/// Programs that are many in one.
const MANY: [&str; 3] = ["busybox", "coreutils", "toybox"];

const SHELLS: [&str; 4] = ["ash", "bash", "dash", "sh"];

/// The kind of note that keeps what was found in a rootfs: a result never changes, so it is looked at once.
const NOTE: &str = "plain-programs";

/// Tells whether all of `relied` in `rootfs` are compiled programs of these names, and nothing is loaded into them.
/// What can't be read isn't. Blocking.
pub(super) fn are_plain(relied: &Relied, rootfs: &Outcome, store: &Store) -> bool {
    let name = KeyBuilder::new("plain programs", 1)
        .field("rootfs", rootfs.id.to_string())
        .optional("shell", relied.shell.as_ref())
        .list("programs", &relied.programs)
        .list("folders", &relied.folders)
        .digest()
        .hex();
    if let Ok(Some(known)) = store.note(NOTE, &name) {
        return known == "yes";
    }
    let Ok(plain) = judge(relied, &folders(&rootfs.chain, store)) else { return false };
    // A note that can't be written costs time, not correctness.
    let _ = store.put_note(NOTE, &name, if plain { "yes" } else { "no" });
    plain
}

/// The same of a chain of folders in overlay form, base first.
fn judge(relied: &Relied, chain: &[PathBuf]) -> Result<bool> {
    let rootfs = Merged::open(chain)?;
    if resolve(&rootfs, b"etc/ld.so.preload")?.entry.is_some() {
        return Ok(false);
    }
    if let Some(shell) = &relied.shell {
        let well = match shell.contains('/') {
            true => is_plain(&rootfs, shell.as_bytes(), &SHELLS)?,
            false => in_folders(&rootfs, relied, shell, &SHELLS)?,
        };
        if !well {
            return Ok(false);
        }
    }
    for program in &relied.programs {
        if !in_folders(&rootfs, relied, program, &[program, &format!("gnu{program}")])? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All that `name` could stand for: a step may remove or enable what is found first.
fn in_folders(rootfs: &Merged, relied: &Relied, name: &str, names: &[&str]) -> Result<bool> {
    for folder in &relied.folders {
        if !is_plain(rootfs, &join(folder.as_bytes(), name.as_bytes()), names)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True too if nothing is there.
fn is_plain(rootfs: &Merged, path: &[u8], names: &[&str]) -> Result<bool> {
    use crate::build::tree::Tree;
    let found = resolve(rootfs, path)?;
    let Some(entry) = found.entry else { return Ok(true) };
    if entry.kind != Kind::File {
        return Ok(entry.is_dir());
    }
    let name = String::from_utf8_lossy(split_last(&found.path).1).into_owned();
    if !names.contains(&name.as_str()) && !MANY.iter().any(|many| name.starts_with(many)) {
        return Ok(false);
    }
    let mut start = [0; ELF.len()];
    let file = rootfs.open(&entry)?;
    Ok((&file).read_exact(&mut start).is_ok() && start == ELF)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_what_it_is_called_if_it_is_compiled_and_nothing_else_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["bin", "usr/local/bin", "etc", "dir/mkdir"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let elf = "\x7fELF and so on";
        write("bin/busybox", elf);
        symlink("busybox", folder.path().join("bin/sh")).unwrap();
        symlink("/bin/busybox", folder.path().join("bin/mkdir")).unwrap();
        write("bin/rm", "#!/bin/sh\nenv");
        write("bin/true", elf);
        symlink("true", folder.path().join("bin/touch")).unwrap();
        let plain = |shell: Option<&str>, programs: &[&str]| {
            let relied = Relied {
                shell: shell.map(str::to_owned),
                programs: programs.iter().map(|name| (*name).to_owned()).collect(),
                folders: ["/usr/local/bin", "/bin", "/nowhere", "/dir"].map(str::to_owned).to_vec(),
            };
            judge(&relied, &[folder.path().to_owned()]).unwrap()
        };
        assert!(plain(Some("/bin/sh"), &["mkdir", "true", "nothing"]));
        assert!(plain(Some("sh"), &[]) && plain(None, &["mkdir"]));
        assert!(!plain(None, &["rm"]) && !plain(Some("/bin/rm"), &[]), "a script");
        assert!(!plain(None, &["touch"]), "another program");
        write("usr/local/bin/mkdir", "#!/bin/sh");
        assert!(!plain(None, &["mkdir"]));
        assert!(plain(None, &["true"]));
        write("etc/ld.so.preload", "/lib/x.so");
        assert!(!plain(None, &["true"]));
    }
}
