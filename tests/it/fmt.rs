//! `kiln fmt`, as users, editors and pipelines call it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::binary::{Kiln, Ran, run};

const MESSY: &str = "from  busybox\ncopy   a b  /c/\n\n\nRUN  x  &&  y\n";
const TIDY: &str = "FROM busybox\nCOPY a b /c/\n\nRUN x  &&  y\n";

fn fmt(kiln: &Kiln, folder: &Path, words: &[&str]) -> Ran {
    run(kiln.command(&[&["fmt"], words].concat()).current_dir(folder))
}

#[test]
fn the_result_is_printed_or_written_back() {
    let (kiln, folder) = (Kiln::empty(), tempfile::tempdir().unwrap());
    let file = folder.path().join("Dockerfile");
    fs::write(&file, MESSY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for words in [&[][..], &["."], &["Dockerfile"]] {
        assert_eq!(fmt(&kiln, folder.path(), words).ok().out, TIDY, "{words:?}");
    }
    assert_eq!(kiln.run_with(&["fmt", "-"], MESSY.as_bytes()).ok().out, TIDY);
    assert_eq!(fs::read_to_string(&file).unwrap(), MESSY, "nothing was written");
    assert_eq!(fmt(&kiln, folder.path(), &["-w"]).ok().out, "Dockerfile\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), TIDY);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fmt(&kiln, folder.path(), &["-w"]).ok().out, "", "there is nothing more to do");
    assert!(!kiln.root().exists(), "formatting makes no store");
}

#[test]
fn check_names_what_would_change_and_gives_1() {
    let (kiln, folder) = (Kiln::empty(), tempfile::tempdir().unwrap());
    for (name, text) in [("a", MESSY), ("b", TIDY), ("c", "FORM x\n")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let ran = fmt(&kiln, folder.path(), &["--check", "a", "b"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "a\n"), "{ran}");
    assert_eq!(fmt(&kiln, folder.path(), &["--check", "b"]).ok().out, "");
    let ran = fmt(&kiln, folder.path(), &["-w", "c", "a"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "a\n"), "one with mistakes doesn't stop the others\n{ran}");
    assert!(ran.error.contains("c:1:1: error: unknown instruction: `FORM`"), "{ran}");
    assert_eq!(fs::read_to_string(folder.path().join("c")).unwrap(), "FORM x\n");
    fmt(&kiln, folder.path(), &["--check", "-w", "a"]).fails_with(&["can't be used together"]);
    fmt(&kiln, folder.path(), &["nowhere"]).fails_with(&["cannot read the Dockerfile `nowhere`"]);
}
