//! `kiln save`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::{exit, flags, terminal};

/// `kiln save`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Save {
    /// Write to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Writes images to one archive that docker, podman and skopeo read.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Save = flags::parse(invocation)?;
    let engine = invocation.session.engine()?;
    let Some(path) = &flags.output else {
        terminal::refuse_archive("use `-o FILE`, or redirect")?;
        let mut out = BufWriter::new(io::stdout().lock());
        engine.save(&flags.images, &mut out)?;
        out.flush()?;
        return Ok(exit::SUCCESS);
    };
    // A failed save leaves no half archive behind, nor destroys an older one.
    let beside = beside(path);
    let bad = |error| Error::usage(format!("cannot write `{}`: {error}", path.display()));
    let result = File::create(&beside).map_err(bad).and_then(|file| {
        let mut out = BufWriter::new(file);
        engine.save(&flags.images, &mut out)?;
        out.flush().map_err(bad)
    });
    match result {
        Ok(()) if beside == *path => Ok(exit::SUCCESS),
        Ok(()) => std::fs::rename(&beside, path).map(|()| exit::SUCCESS).map_err(bad),
        Err(error) => {
            if beside != *path {
                // The failure itself matters more than a file that can't be removed.
                drop(std::fs::remove_file(&beside));
            }
            Err(error)
        }
    }
}

/// The name under which the archive is written; a device or pipe is written itself.
fn beside(path: &Path) -> PathBuf {
    if path.exists() && !path.is_file() {
        return path.to_owned();
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
