//! The DAG of a build. Pure: no IO, no clock, no environment.
//!
//! [`lower`] turns a Dockerfile's tree into a [`Graph`]. Only stages that the target needs are
//! lowered. The bases are needed for that (their environment, user, shell and ONBUILD triggers), so
//! lowering first answers with the bases that it [misses](Lowered::Missing), and is called again
//! when they are there; FROM and `COPY --from=image` may ask several times.
//!
//! 1. `lower`: which stages, in which order; global ARGs.
//! 2. `stage`: one stage's state, instruction by instruction; metadata changes the config, the rest
//!    becomes a vertex.
//! 3. `scope`: which variables a word sees.
//! 4. `from`: what `--from` names.
//! 5. `transfer`: COPY and ADD; `chmod`: their modes.
//! 6. `run`: the program of a RUN; `mounts`: what its `--mount`s name.
//! 7. `checks`: what is legal but unwise.
//! 8. `observe`: which ARGs a RUN can read.
//! 9. `history`: the text that `kiln history` shows of each instruction; `name`: what the progress shows.

mod budget;
mod checks;
mod chmod;
mod contexts;
mod from;
mod history;
mod look;
mod lower;
mod mounts;
mod name;
mod observe;
mod op;
mod remote;
mod run;
mod scope;
mod stage;
mod switches;
#[cfg(test)]
pub(in crate::build) mod tests;
mod transfer;

pub use chmod::{Chmod, ModeChange};
pub use look::{Asked, Checked, Outline, OutlineArg, check, outline, unasked};
pub use lower::{Base, BaseRequest, Bases, Hidden, Lowered, Parameters, Wanted, lower, unknown_stages};
pub use op::{
    CopySource, CopySpec, DeviceSpec, ExecSpec, FileOwner, HOSTNAME, MkdirSpec, MountKind, MountSpec, OpSpec,
    PARENTS_MODE, Relied, SCRIPT_FOLDER, Script, SourceSpec,
};

use std::collections::BTreeSet;

use kiln_grammar::ast::Span;

use crate::oci::{HistoryEntry, ImageConfig};

/// Index of a vertex in its graph; inputs have smaller indices than the vertices that use them.
pub type VertexId = usize;

/// What a build has to bring about.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The vertices, inputs first.
    pub vertices: Vec<Vertex>,
    /// Those whose recorded results aren't used, because the user wants their stages built anew.
    pub anew: BTreeSet<VertexId>,
    /// The vertex whose result is the target's root filesystem.
    pub target: VertexId,
    /// The image around it.
    pub plan: ImagePlan,
    /// Mistakes that don't stop the build, with their places: those of the file, too.
    pub warnings: Vec<kiln_grammar::diagnostic::Diagnostic>,
}

/// A place that files are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// What a vertex made.
    Vertex(VertexId),
    /// Files of the user's.
    Context(ContextId),
}

/// Which of a build's contexts: 0 is the one that the user named last on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub usize);

impl ContextId {
    /// The build context itself.
    pub const MAIN: Self = Self(0);
}

/// One op and where its inputs come from.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// What it does.
    pub op: OpSpec,
    /// The vertex whose result is the rootfs that it works on; `None` for sources.
    pub rootfs: Option<VertexId>,
    /// What it reads beside its rootfs: a copy reads one place, a RUN one for each mount that has files.
    pub reads: Vec<Input>,
    /// Its shown name: `[build 2/5] RUN make`.
    pub name: String,
    /// The instruction in the Dockerfile.
    pub span: Span,
    /// What the instruction's variables stood for, but for a RUN's: those are its environment.
    pub variables: Vec<Variable>,
}

impl Vertex {
    /// The vertices whose results it needs: first the rootfs, then what it reads.
    pub fn inputs(&self) -> impl Iterator<Item = VertexId> {
        let made = self.reads.iter().filter_map(|read| match read {
            Input::Vertex(vertex) => Some(*vertex),
            Input::Context(_) => None,
        });
        self.rootfs.into_iter().chain(made)
    }

    /// The stage of an instruction's step, empty for the only one without a name; `None` for a step that is no
    /// instruction of the file's.
    pub fn stage(&self) -> Option<&str> {
        name::stage(&self.name)
    }
}

/// A variable that was filled into an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; `None` for one that isn't set.
    pub value: Option<String>,
    /// Whether the value is an ARG's, not of the environment.
    pub is_arg: bool,
}

/// The image of the target stage, but for its layers and times.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The config; `rootfs`, `history` and `created` are filled in by the assembly.
    pub config: ImageConfig,
    /// The history, oldest first.
    pub history: Vec<HistoryPlan>,
}

/// One line of the image's history.
#[derive(Debug, Clone, PartialEq)]
pub enum HistoryPlan {
    /// A line of the base image, kept as it is.
    Kept(HistoryEntry),
    /// An instruction of this build.
    Made {
        /// Its text.
        created_by: String,
        /// The vertex that made its layer; `None` for metadata.
        vertex: Option<VertexId>,
    },
}
