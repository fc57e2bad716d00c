//! OCI names and arithmetic, without IO.
//!
//! References, platforms, media types and layer identities. The JSON types of manifests come from
//! `oci-spec` and are re-exported here, so that the rest of the crate has one place to import from.
//! What was pulled is kept as raw bytes; these types are for reading it, never for writing it again.

mod config;
mod layer_id;
pub mod media_type;
mod platform;
mod port;
mod reference;
mod signal;

pub use config::{Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs, RunConfig};
pub use layer_id::{ChainId, DiffId, chain_id};
pub use platform::{Platform, PlatformError, choose, is_attestation};
pub use port::parse_ports;
pub use reference::{Reference, ReferenceError};
pub use signal::{parse_signal, signal_name};

pub use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageIndex, ImageIndexBuilder, ImageManifest, ImageManifestBuilder,
    MediaType,
};

use kiln_cache::{Digest, ParseDigestError};

/// Returns the digest of `descriptor`; algorithms other than sha256 are refused.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, ParseDigestError> {
    descriptor.digest().to_string().parse()
}
