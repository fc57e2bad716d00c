//! Flags of `kiln create` and `run`: what is mounted.

mod short;

use self::short::volume;
use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--mount",
    "--storage-opt",
    "--volume-driver",
    "--volumes-from",
];

/// What is mounted.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Mounts {
    /// Mount a folder in memory (PATH[:size=64m,mode=1770,exec])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Mount a host path or a volume ([SOURCE:]TARGET[:ro])
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
}

impl Mounts {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.mounts = self.volume.iter().map(|text| volume(text)).collect::<Result<_, _>>()?;
        request.isolation.tmpfs = self.tmpfs.iter().map(|text| tmpfs(text)).collect();
        Ok(())
    }
}

/// Splits the options off.
fn tmpfs(text: &str) -> (String, String) {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    (path.to_owned(), options.to_owned())
}
