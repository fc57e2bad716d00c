//! The identities of layers: diffID and chainID.

use std::fmt;

use kiln_cache::Digest;

/// The digest of a layer's uncompressed tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// The identity of a stack of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the chain ID of `diff_ids`, base layer first.
///
/// One ID is its own chain; each further one is `sha256(chain + " " + diff_id)` over the
/// `sha256:<hex>` spelling. `None` for an empty slice. Source: OCI image-spec, config.md, "Layer ChainID".
pub fn chain_id(diff_ids: &[DiffId]) -> Option<ChainId> {
    let (base, rest) = diff_ids.split_first()?;
    let chain = rest.iter().fold(base.0, |chain, diff_id| Digest::of(format!("{chain} {diff_id}")));
    Some(ChainId(chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_follow_the_image_spec() {
        assert_eq!(chain_id(&[]), None);
        let [a, b, c] = ["a", "b", "c"].map(|text| DiffId(Digest::of(text)));
        assert_eq!(chain_id(&[a]), Some(ChainId(a.0)));
        let ab = Digest::of(format!("{a} {b}"));
        assert_eq!(chain_id(&[a, b]), Some(ChainId(ab)));
        assert_eq!(chain_id(&[a, b, c]), Some(ChainId(Digest::of(format!("{ab} {c}")))));
    }
}
