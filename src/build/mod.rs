//! The build engine: from a Dockerfile's tree to an image.

pub mod graph;
