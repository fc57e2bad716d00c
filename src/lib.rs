//! kiln: a Dockerfile build engine with its own container runtime.
//!
//! The modules, bottom to top. Calls go down only; `tests/it/layers.rs` holds the table of
//! who may use whom.

pub mod api;
pub mod blocking;
pub mod build;
pub mod bundle;
pub mod cdi;
pub mod cli;
pub mod container;
pub mod engine;
pub mod events;
pub mod fetch;
pub mod image;
pub mod network;
pub mod oci;
pub mod proxy;
pub mod redacted;
pub mod registry;
pub mod resolver;
pub mod rotated;
pub mod runtime;
pub mod sys;
pub mod volume;
