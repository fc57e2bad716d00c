//! The floor of a no-op build of a large context: one thread that reads each folder and asks each file's metadata.
//!
//! Usage: `walk FOLDER`; prints the number of files.

use std::path::Path;
use std::{env, fs, io};

fn walk(folder: &Path) -> io::Result<u64> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Relative to the folder's descriptor, which is the cheapest way.
        if entry.metadata()?.is_dir() {
            files += walk(&entry.path())?;
        } else {
            files += 1;
        }
    }
    Ok(files)
}

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).expect("usage: walk FOLDER");
    println!("{}", walk(Path::new(&folder))?);
    Ok(())
}
