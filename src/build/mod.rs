//! The build engine: from a Dockerfile's tree to an image.

pub mod context;
pub mod graph;
pub mod ops;
pub mod solve;
pub mod tree;
pub mod why;
