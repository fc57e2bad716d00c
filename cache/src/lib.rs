//! The content-addressed store.

mod digest;

pub use digest::{Digest, Hasher, ParseDigestError};
