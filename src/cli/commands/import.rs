//! `kiln import`

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use super::pairs;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::{exit, flags};

/// `kiln import`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Import {
    /// Apply a Dockerfile instruction to the image's configuration, such as `CMD ["sh"]`
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set the comment of the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Tar archive of a root filesystem, or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    file: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Makes an image of a root filesystem and prints its id.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Import = flags::parse(invocation)?;
    let name = flags.name.as_deref().map(pairs::new_name).transpose()?;
    if flags.file.starts_with("http://") || flags.file.starts_with("https://") {
        return Err(Error::usage("importing from a URL is not supported yet").hint("download it first"));
    }
    let mut input = open(&flags.file)?;
    let engine = invocation.session.root_engine()?;
    let id = engine.import(&mut *input, name.as_ref(), &flags.change, flags.message.as_deref())?;
    print_line(&id)?;
    Ok(exit::SUCCESS)
}

/// Opens a file, or standard input for `-`.
pub(crate) fn open(path: &str) -> Result<Box<dyn Read + Send>, Error> {
    if path != "-" {
        let file = File::open(path).map_err(|error| {
            Error::usage(format!("cannot open `{path}`: {error}"))
                .hint("name a tar archive, or `-` for standard input")
        })?;
        return Ok(Box::new(file));
    }
    if io::stdin().is_terminal() {
        return Err(Error::usage("the archive is read from standard input, and that is a terminal")
            .hint("redirect it: `… < FILE`"));
    }
    Ok(Box::new(io::stdin()))
}
