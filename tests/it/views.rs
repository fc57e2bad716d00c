//! `kiln ps`, `inspect`, `port` and `prune` of containers.
