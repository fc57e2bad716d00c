//! What a build leaves for the next one of the same Dockerfile, and which step of one is which of the other.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use kiln_cache::Digest;
use serde::{Deserialize, Serialize};

use crate::api::{MissReason, StepEnd};

/// Changes when older notes can't be read any more; they are then as good as none.
const VERSION: u32 = 1;

/// Notes of more steps than this aren't kept.
const MOST_STEPS: usize = 20_000;

/// The steps of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    version: u32,
    /// When it ended, in unix seconds.
    pub ended: u64,
    /// In the order of the graph; then those of stages that this build's target didn't need.
    pub steps: Vec<Step>,
    /// How many of them are this build's own.
    pub own: usize,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its stage; empty for the only one without a name.
    pub stage: String,
    /// Its shown name.
    pub name: String,
    /// A digest of its text in the Dockerfile.
    pub text: String,
    /// A digest of its first line.
    pub head: String,
    /// How it came out.
    pub end: StepEnd,
    /// Why it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<MissReason>,
    /// The key of its last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// A digest of that result's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// The same of what that was made from: first the rootfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The cheap key with which it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Digest>,
    /// What was filled into its text: names and digests of values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<(String, String)>,
    /// Which variables of its environment are ARGs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub args: BTreeSet<String>,
    /// The image that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

/// The image of a FROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its digest, as registries know it, else its id.
    pub digest: String,
}

impl Notes {
    /// The notes of `steps`, of which the first `own` are the build's own.
    pub fn new(ended: u64, steps: Vec<Step>, own: usize) -> Self {
        Self { version: VERSION, ended, steps, own }
    }

    /// Reads notes; `None` for those that aren't whole or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|notes: &Self| notes.version == VERSION)
    }

    /// Writes notes; `None` for those that are too long to be worth it.
    pub fn encode(&self) -> Option<Vec<u8>> {
        (self.steps.len() <= MOST_STEPS).then(|| serde_json::to_vec(self).expect("notes are plain data"))
    }
}

/// Finds for each step of `now` the one of `before` that it was.
///
/// The same text in the same stage; for what is left, the same place in its stage (its text was edited); last, the
/// same text in a stage that has another name now. Each step is found once.
pub fn matched(now: &[Step], before: &[Step]) -> Vec<Option<usize>> {
    let mut left: HashSet<usize> = (0..before.len()).collect();
    let mut found: Vec<Option<usize>> = vec![None; now.len()];
    let mut texts: HashMap<(&str, &str), VecDeque<usize>> = HashMap::new();
    for (index, step) in before.iter().enumerate() {
        texts.entry((&step.stage, &step.text)).or_default().push_back(index);
    }
    for (step, found) in now.iter().zip(&mut found) {
        *found = texts.get_mut(&(&*step.stage, &*step.text)).and_then(VecDeque::pop_front);
        if let Some(index) = found {
            left.remove(index);
        }
    }
    let by_place: HashMap<(&str, usize), usize> = places(before).into_iter().zip(0..).collect();
    for (place, found) in places(now).into_iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
        *found = by_place.get(&place).copied().filter(|index| left.remove(index));
    }
    let (of_now, of_before) = (stages(now), stages(before));
    let mut renamed: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (index, step) in before.iter().enumerate().filter(|(index, _)| left.contains(index)) {
        if !of_now.contains(&*step.stage) {
            renamed.entry(&step.text).or_default().push_back(index);
        }
    }
    for (step, found) in now.iter().zip(&mut found) {
        if found.is_none() && !of_before.contains(&*step.stage) {
            *found = renamed.get_mut(&*step.text).and_then(VecDeque::pop_front);
        }
    }
    found
}

/// The stage of each step, and its number in that.
fn places(steps: &[Step]) -> Vec<(&str, usize)> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let place = |step| {
        let Step { stage, .. }: &Step = step;
        let count = counts.entry(stage).or_default();
        *count += 1;
        (stage.as_str(), *count)
    };
    steps.iter().map(place).collect()
}

fn stages(steps: &[Step]) -> HashSet<&str> {
    steps.iter().map(|step| step.stage.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of `stage:text` words.
    fn steps(words: &str) -> Vec<Step> {
        let step = |word: &str| {
            let (stage, text) = word.split_once(':').unwrap();
            Step { stage: stage.to_owned(), text: text.to_owned(), ..Step::default() }
        };
        words.split_whitespace().map(step).collect()
    }

    #[test]
    fn steps_are_found_by_text_then_by_place_then_in_a_renamed_stage() {
        for (now, before, expected) in [
            (":a :b :c", ":a :b :c", vec![Some(0), Some(1), Some(2)]),
            // One was put in, one was taken out, one was edited.
            (":a :x :b", ":a :b", vec![Some(0), None, Some(1)]),
            (":a :c", ":a :b :c", vec![Some(0), Some(2)]),
            (":a :x :c", ":a :b :c", vec![Some(0), Some(1), Some(2)]),
            // Equal ones in their order.
            (":a :a :b", ":a :b :a", vec![Some(0), Some(2), Some(1)]),
            ("s:a t:a", "t:a s:a", vec![Some(1), Some(0)]),
            ("new:a new:x", "old:a old:b", vec![Some(0), None]),
            (":a", "", vec![None]),
        ] {
            assert_eq!(matched(&steps(now), &steps(before)), expected, "{now} / {before}");
        }
    }

    #[test]
    fn notes_that_are_cut_or_of_another_version_are_none() {
        let notes = Notes::new(12, steps("s:a"), 1);
        let bytes = notes.encode().unwrap();
        assert_eq!(Notes::decode(&bytes), Some(notes.clone()));
        assert_eq!(Notes::decode(&bytes[..bytes.len() - 1]), None);
        let other = Notes { version: VERSION + 1, ..notes };
        assert_eq!(Notes::decode(&other.encode().unwrap()), None);
    }
}
