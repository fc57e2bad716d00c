//! Why steps of a build run.

use std::sync::Arc;

use kiln_cache::Digest;
use kiln_cache::key::KeyBuilder;

use super::build::Build;
use super::dockerfile::Recipe;
use crate::api::{BuildRequest, ContextSource, DockerfileSource, StepId, without_password};
use crate::build::graph::Graph;
use crate::build::why::{Plan, Why};

impl Build<'_> {
    /// Who finds out why steps run; `first` is the number of the graph's first step.
    pub(super) fn why(&self, recipe: &Recipe, graph: &Arc<Graph>, first: StepId) -> Why {
        let plan = Plan {
            graph: Arc::clone(graph),
            text: Arc::clone(&recipe.text),
            build: name_of(self.request),
            first,
            no_cache: self.request.no_cache,
        };
        Why::new(plan, self.store.clone(), self.events.clone())
    }
}

/// Names the builds that are compared with each other: those of one Dockerfile and context for one platform.
fn name_of(request: &BuildRequest) -> Digest {
    let key = KeyBuilder::new("build", 1).field("platform", request.platform.to_string());
    let key = match &request.context {
        ContextSource::Directory(path) => key.field("folder", path.as_os_str().as_encoded_bytes()),
        ContextSource::Remote(source) => key.field("address", source.shown()),
        ContextSource::Tar(_) => key.field("archive", ""),
        ContextSource::None => key.field("nothing", ""),
    };
    let key = match &request.dockerfile {
        DockerfileSource::Path(path) => key.field("file", path.as_os_str().as_encoded_bytes()),
        DockerfileSource::Remote(source) => key.field("file address", without_password(&source.url)),
        DockerfileSource::Text(_) => key.field("text", ""),
    };
    key.digest()
}
