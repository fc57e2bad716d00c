//! Labels as filters name them.

use std::collections::BTreeMap;

/// Labels that a thing has to have, each with a value, or without one when any will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelFilter(pub Vec<(String, Option<String>)>);

impl LabelFilter {
    /// Tells whether `labels` has all of them.
    pub fn has_all(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|wanted| is_in(wanted, labels))
    }

    /// Tells whether none is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_in((key, wanted): &(String, Option<String>), labels: &BTreeMap<String, String>) -> bool {
    labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_without_a_value_fits_any() {
        let labels = [("tier", "db"), ("empty", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels = BTreeMap::from(labels);
        for (wanted, all) in [
            (&[][..], true),
            (&[("tier", None)], true),
            (&[("tier", Some("db"))], true),
            (&[("tier", Some("web"))], false),
            (&[("tier", Some(""))], false),
            (&[("empty", Some(""))], true),
            (&[("tier", None), ("none", None)], false),
        ] {
            let wanted = wanted.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
            let wanted = LabelFilter(wanted.collect());
            assert_eq!(wanted.has_all(&labels), all, "{wanted:?}");
        }
    }
}
