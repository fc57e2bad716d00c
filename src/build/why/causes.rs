//! The causes of one execution, the root of them first.

use std::collections::BTreeSet;

use kiln_cache::{Found as Recorded, Record};

use super::files::{self, Named};
use super::notes::Step;
use super::parts::{self, Difference, Parts};
use super::{Found, Run, Why, short, short_id};
use crate::api::MissReason;
use crate::build::graph::{CopySource, OpSpec, Variable, Vertex, VertexId};
use crate::build::solve::{Absent, Outcome};

impl Why {
    /// Why `vertex` runs, whose key has the parts `now`; with its `outcome` when it has run already.
    pub(super) fn causes(&self, vertex: VertexId, now: &Parts, outcome: Option<&Outcome>) -> Vec<MissReason> {
        let Some(run) = self.run_of(vertex) else { return Vec::new() };
        match run.absent {
            Absent::Refused if self.plan.no_cache => return vec![MissReason::NoCache],
            Absent::Refused => return vec![MissReason::NoCacheFilter],
            Absent::Expired { created } => return vec![MissReason::Expired { created }],
            Absent::Collected { at } => return vec![MissReason::Collected { at: Some(at) }],
            Absent::Lost => return vec![MissReason::Lost],
            Absent::Never => {}
        }
        let last = self.last();
        let Some(before) = last.step(vertex) else {
            return vec![if last.notes.is_none() { MissReason::NeverBuilt } else { MissReason::NewStep }];
        };
        if before.failed == Some(run.cheap) {
            return vec![MissReason::FailedLastTime];
        }
        let Some(key) = before.key else { return vec![MissReason::NeverBuilt] };
        let (record, collected) = match self.store.find_record(&key).ok().flatten() {
            Some(Recorded::Present(record)) => (Some(record), None),
            Some(Recorded::Collected { record, at }) => (Some(record), Some(at)),
            None => (None, None),
        };
        let mut causes = self.own(vertex, before, record.as_ref(), now);
        if causes.is_empty() {
            causes.extend(record.and_then(|record| self.read(self.vertex(vertex), &record, now, outcome)));
        }
        if causes.is_empty() {
            causes = self.below(vertex, before, &run);
        }
        if causes.is_empty() {
            // Nothing is different but that the result isn't there any more.
            causes.push(MissReason::Collected { at: collected });
        }
        causes
    }

    /// What the Dockerfile and the command line say of the step.
    fn own(&self, vertex: VertexId, before: &Step, record: Option<&Record>, now: &Parts) -> Vec<MissReason> {
        let (vertex, step) = (self.vertex(vertex), &self.last().now[&vertex]);
        let difference = match record.map(|record| parts::compare(&record.parts, now)) {
            Some(Some(difference)) => difference,
            // Another kind of instruction: no part of it can be compared.
            Some(None) => return vec![MissReason::Instruction { flags: Vec::new() }],
            None => Difference::default(),
        };
        let filled_in = filled_in(&vertex.variables, before);
        // What a variable was filled into may be the same all the same.
        let by_variable = !filled_in.is_empty() && (record.is_none() || !difference.settings.is_empty());
        let mut causes = Vec::new();
        if before.text != step.text {
            causes.push(self.edited(vertex, before, step, &difference));
        } else if !difference.settings.is_empty() && !by_variable {
            causes.push(MissReason::Setting { names: difference.settings.into_iter().collect() });
        }
        let is_arg = |name: &String| is_arg(name, vertex, before);
        let filled_in = filled_in.into_iter().filter(|_| by_variable).map(str::to_owned);
        let (args, env): (Vec<String>, Vec<String>) =
            difference.variables.into_iter().chain(filled_in).partition(is_arg);
        causes.extend((!args.is_empty()).then_some(MissReason::Arg { names: args }));
        causes.extend((!env.is_empty()).then_some(MissReason::Env { names: env }));
        causes.extend(difference.upgraded.then_some(MissReason::Upgraded));
        causes
    }

    /// What of an instruction's text is another than `before`.
    fn edited(&self, vertex: &Vertex, before: &Step, step: &Step, difference: &Difference) -> MissReason {
        let text = self.text_of(vertex);
        let has_heredoc = text.lines().next().is_some_and(|line| line.contains("<<"));
        if before.head == step.head && has_heredoc {
            return MissReason::Heredoc;
        }
        let flags: Vec<String> = difference.settings.iter().cloned().collect();
        let flags_only = flags.iter().all(|setting| setting.starts_with("--"));
        MissReason::Instruction { flags: if flags_only { flags } else { Vec::new() } }
    }

    /// What was read, from a context or from elsewhere, by the parts of its digest.
    fn read(
        &self,
        vertex: &Vertex,
        record: &Record,
        now: &Parts,
        outcome: Option<&Outcome>,
    ) -> Option<MissReason> {
        let differs = |name: &str| parts::value(&record.parts, name) != parts::value(now, name);
        let is_remote = parts::value(now, "op")?.starts_with("remote ");
        if differs("commit") {
            let commit = |parts| parts::value(parts, "commit").map(str::to_owned);
            let (from, to) = (commit(&record.parts), commit(now));
            return Some(MissReason::Remote { what: "commit".to_owned(), from, to });
        }
        if is_remote {
            let what = ["content", "time"].into_iter().find(|name| differs(name))?;
            return Some(MissReason::Remote { what: what.to_owned(), from: None, to: None });
        }
        let outcome = outcome.filter(|_| differs("content"))?;
        Some(files::changed(record.chain.last(), outcome.chain.last(), named_by(vertex), &self.store))
    }

    /// What the step stands on or reads of other steps.
    fn below(&self, vertex: VertexId, before: &Step, run: &Run) -> Vec<MissReason> {
        let inputs = self.vertex(vertex).inputs().zip(&run.inputs).enumerate();
        let changed: Vec<(usize, VertexId)> = inputs
            .filter(|(index, (_, id))| before.inputs.get(*index) != Some(&short_id(id)))
            .map(|(index, (input, _))| (index, input))
            .collect();
        let mut causes = Vec::new();
        for (_, input) in &changed {
            for cause in self.roots(*input) {
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
        }
        if causes.is_empty() && !changed.is_empty() {
            let removed = changed.iter().find_map(|(index, _)| self.removed(before.inputs.get(*index)?));
            causes.push(removed.unwrap_or(MissReason::Order));
        }
        causes
    }

    /// Why the result of `vertex` is another than in the last build: what is lowest of what changed.
    fn roots(&self, vertex: VertexId) -> Vec<MissReason> {
        let (mut todo, mut seen, mut causes) = (vec![vertex], BTreeSet::new(), Vec::new());
        let mut lowest = None;
        while let Some(number) = todo.pop() {
            if !seen.insert(number) {
                continue;
            }
            let vertex = self.vertex(number);
            let ran = self.run_of(number).filter(|run| run.ran);
            match (&vertex.op, ran) {
                (OpSpec::Source(_), _) => causes.extend(self.base(number)),
                (op, _) if !op.is_shown() => todo.extend(vertex.inputs()),
                (_, Some(run)) => causes.extend(self.handed_on(vertex, run)),
                _ if self.is_as_before(number) => {}
                (OpSpec::Copy(_), None) if vertex.stage().is_none() => causes.extend(self.part(number)),
                _ => {
                    lowest = Some(vertex);
                    todo.extend(vertex.inputs());
                }
            }
        }
        if causes.is_empty() {
            let name = lowest.map(|vertex| self.name_of(vertex));
            causes.extend(name.map(|name| MissReason::EarlierStep { name, ran: false }));
        }
        causes
    }

    /// What a step that ran is as a cause of those above it: the cause that it has from below itself, else the step.
    fn handed_on(&self, vertex: &Vertex, run: Run) -> Vec<MissReason> {
        // A part of a context that is mounted is no step of the user's: its files are.
        let is_part = vertex.stage().is_none();
        let is_from_below = |reason: &MissReason| match reason {
            MissReason::Base { .. }
            | MissReason::EarlierStep { .. }
            | MissReason::StepRemoved { .. }
            | MissReason::Order => true,
            MissReason::Files { .. } | MissReason::Remote { .. } => is_part,
            _ => false,
        };
        match run.reasons.iter().all(is_from_below) && !run.reasons.is_empty() {
            true => run.reasons,
            false => vec![MissReason::EarlierStep { name: self.name_of(vertex), ran: true }],
        }
    }

    fn is_as_before(&self, vertex: VertexId) -> bool {
        let (before, now) = (self.last().step(vertex), self.result_of(vertex));
        before.zip(now).is_some_and(|(before, now)| before.result == short_id(&now.id))
    }

    /// The image of a FROM, if it is another one.
    fn base(&self, vertex: VertexId) -> Option<MissReason> {
        if self.is_as_before(vertex) {
            return None;
        }
        let before = self.last().step(vertex).and_then(|before| before.image.as_ref());
        let now = self.last().now[&vertex].image.as_ref()?;
        let was = before.filter(|before| before.name != now.name);
        Some(MissReason::Base {
            name: now.name.clone(),
            was: was.map(|before| before.name.clone()),
            from: before.map(|before| before.digest.clone()),
            to: now.digest.clone(),
        })
    }

    /// The files of a part of a context that was cached, but isn't what the last build had.
    fn part(&self, vertex: VertexId) -> Option<MissReason> {
        let Found { top, .. } = self.result_of(vertex)?;
        let record = self.store.record(&self.last().step(vertex)?.key?).ok()??;
        Some(files::changed(record.chain.last(), top.as_ref(), named_by(self.vertex(vertex)), &self.store))
    }

    /// The step of the last build with this result, if this build hasn't it.
    fn removed(&self, result: &str) -> Option<MissReason> {
        let last = self.last();
        let steps = &last.notes.as_ref()?.steps;
        let index = steps.iter().position(|step| step.result == result)?;
        let is_there = last.matched.values().any(|matched| *matched == index);
        (!is_there).then(|| MissReason::StepRemoved { name: steps[index].name.clone() })
    }
}

/// What names the files that a copy reads.
fn named_by(vertex: &Vertex) -> Named {
    let is_remote = |source: &CopySource| matches!(source, CopySource::Remote { .. });
    match &vertex.op {
        OpSpec::Copy(spec) if spec.sources.iter().any(is_remote) => Named::ByPlace,
        _ => Named::BySource,
    }
}

/// The variables in an instruction's text that had another value.
fn filled_in<'v>(variables: &'v [Variable], before: &Step) -> Vec<&'v str> {
    let changed = |variable: &&Variable| {
        let known = before.variables.iter().find(|(name, _)| *name == variable.name);
        let now = variable.value.as_deref().map(short).unwrap_or_default();
        known.is_some_and(|(_, value)| *value != now)
    };
    variables.iter().filter(changed).map(|variable| variable.name.as_str()).collect()
}

/// Tells whether a variable that changed is an ARG; of one that is gone, whether it was.
fn is_arg(name: &str, vertex: &Vertex, before: &Step) -> bool {
    match (&vertex.op, vertex.variables.iter().find(|variable| variable.name == name)) {
        (_, Some(variable)) => variable.is_arg,
        (OpSpec::Exec(spec), None) => {
            let is_there = spec.env.iter().chain(&spec.unread_env).any(|(known, _)| known == name);
            let args = if is_there { &spec.arg_names } else { &before.args };
            // The host name is a build-arg's that no ARG names.
            args.contains(name) || !is_there && !before.args.contains(name) && name == parts::HOSTNAME_ARG
        }
        _ => false,
    }
}
