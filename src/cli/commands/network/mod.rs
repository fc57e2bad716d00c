//! `kiln network`

mod create;
mod list;
mod members;
mod prune;

pub(crate) use create::CREATE;
pub(crate) use list::{INSPECT, LIST};
pub(crate) use members::{CONNECT, DISCONNECT};
pub(crate) use prune::{PRUNE, REMOVE};
