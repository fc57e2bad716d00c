//! Images at rest: between registry, archive, store and snapshots.

pub mod layer;
