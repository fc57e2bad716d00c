//! `kiln why`, and who finds out during a build why its steps run.

use std::sync::Arc;

use kiln_cache::Digest;
use kiln_cache::key::KeyBuilder;

use super::Engine;
use super::build::Build;
use super::dockerfile::Recipe;
use crate::api::{
    ContextSource, DockerfileSource, Failure, FailureKind, LastBuild, StepId, WhyRequest, without_password,
};
use crate::build::graph::Graph;
use crate::build::why::{self, Plan, Why};
use crate::oci::Platform;

impl Engine {
    /// Returns what the last build of a Dockerfile ran, and why. A build that found everything in the cache leaves
    /// no trace, and isn't the last one here.
    pub fn why(&self, request: &WhyRequest) -> Result<LastBuild, Failure> {
        let name = name_of(&request.context, &request.dockerfile, &request.platform);
        let last = why::last(&name, self.store()?);
        last.map_err(|error| Failure::from_error(FailureKind::System, &error))?.ok_or_else(|| {
            let message = "no build of this Dockerfile, context and platform has run a step here";
            Failure::new(FailureKind::NotFound, message).hint("build it first")
        })
    }
}

impl Build<'_> {
    /// Who finds out why steps run; `first` is the number of the graph's first step.
    pub(super) fn why(&self, recipe: &Recipe, graph: &Arc<Graph>, first: StepId) -> Why {
        let plan = Plan {
            graph: Arc::clone(graph),
            text: Arc::clone(&recipe.text),
            build: name_of(&self.request.context, &self.request.dockerfile, &self.request.platform),
            first,
            no_cache: self.request.no_cache,
        };
        Why::new(plan, self.store.clone(), self.events.clone())
    }
}

/// Names the builds that are compared with each other: those of one Dockerfile and context for one platform.
fn name_of(context: &ContextSource, dockerfile: &DockerfileSource, platform: &Platform) -> Digest {
    let key = KeyBuilder::new("build", 1).field("platform", platform.to_string());
    let key = match context {
        ContextSource::Directory(path) => key.field("folder", path.as_os_str().as_encoded_bytes()),
        ContextSource::Remote(source) => key.field("address", source.shown()),
        ContextSource::Tar(_) => key.field("archive", ""),
        ContextSource::None => key.field("nothing", ""),
    };
    let key = match dockerfile {
        DockerfileSource::Path(path) => key.field("file", path.as_os_str().as_encoded_bytes()),
        DockerfileSource::Remote(source) => key.field("file address", without_password(&source.url)),
        DockerfileSource::Text(_) => key.field("text", ""),
    };
    key.digest()
}
