//! `kiln build --call=outline` and `--call=targets`: what a Dockerfile offers, without building it.

use kiln_grammar::Diagnostic;

use super::check::Draft;
use super::{Engine, dockerfile};
use crate::api::{AskedFor, BuildRequest, Failure, Outline, OutlineArg, Target, Targets};
use crate::build::graph;

impl Engine {
    /// Says what the target takes from the command line.
    pub fn outline(&self, request: &BuildRequest) -> Result<Outline, Failure> {
        let draft = self.draft(request)?;
        let tree = draft.parse(request).map_err(|found| failure(&draft, &found))?;
        let parameters = self.looking(request, &draft);
        let outline = graph::outline(&tree, &parameters, &mut |wanted| self.base_at_hand(wanted))
            .map_err(|found| failure(&draft, &found))?;
        let arg = |arg: graph::OutlineArg| OutlineArg {
            name: arg.name,
            value: arg.value,
            description: arg.description,
            place: draft.place(arg.span),
        };
        let asked = |asked: Vec<graph::Asked>| {
            let one = |one: graph::Asked| AskedFor {
                id: one.id,
                required: one.required,
                place: draft.place(one.span),
            };
            asked.into_iter().map(one).collect()
        };
        Ok(Outline {
            name: outline.name,
            description: outline.description,
            args: outline.args.into_iter().map(arg).collect(),
            secrets: asked(outline.secrets),
            ssh: asked(outline.agents),
            caches: asked(outline.caches),
            text: draft.text,
        })
    }

    /// Lists the stages.
    pub fn targets(&self, request: &BuildRequest) -> Result<Targets, Failure> {
        let draft = self.draft(request)?;
        let tree = draft.parse(request).map_err(|found| failure(&draft, &found))?;
        let targets = tree.stages.into_iter().map(|stage| Target {
            name: stage.name.map(|name| name.text),
            description: stage.description,
            base: stage.base.text,
            platform: stage.platform.map(|platform| platform.text),
            place: draft.place(stage.span),
        });
        Ok(Targets { targets: targets.collect(), text: draft.text })
    }
}

fn failure(draft: &Draft, found: &[Diagnostic]) -> Failure {
    dockerfile::mistakes(&draft.name, &draft.text, found)
}
