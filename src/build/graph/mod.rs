//! The DAG of a build. Pure: no IO, no clock, no environment.

mod op;

pub use op::{CopySource, CopySpec, ExecSpec, MkdirSpec, OpSpec, SCRIPT_FOLDER, Script, SourceSpec};
