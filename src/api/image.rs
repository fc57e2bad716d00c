//! Images as they are listed and explained.

use std::collections::BTreeMap;

use super::LabelFilter;

/// A row of `kiln images`, and the head of `kiln inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// `sha256:…` of the config.
    pub id: String,
    /// `name:tag` as users write it (`debian:bookworm`, not `docker.io/library/…`); empty for a dangling image.
    pub tags: Vec<String>,
    /// `name@sha256:…`, where it was pulled from or pushed to.
    pub digests: Vec<String>,
    /// `created` of the config, unix seconds.
    pub created: i64,
    /// Bytes of all its layers, unpacked.
    pub size: u64,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
}

/// A row of `kiln history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// `sha256:…` of the image on the first row and of parents that are images here; else `None` (`<missing>`).
    pub image: Option<String>,
    /// Unix seconds; `None` when the history doesn't say.
    pub created: Option<i64>,
    /// What made the layer.
    pub created_by: String,
    /// Bytes of the layer, 0 for one without.
    pub size: u64,
    /// The history's comment.
    pub comment: String,
    /// The tags of the image on this row.
    pub tags: Vec<String>,
}

/// What `kiln rmi` did, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// `Untagged: name:tag`.
    Untagged(String),
    /// `Deleted: sha256:…`.
    Deleted(String),
}

/// `kiln prune` and its relatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// Stopped containers.
    pub containers: bool,
    /// Images: dangling ones, or with `all` every one that no container uses.
    pub images: bool,
    /// Build cache that no image needs.
    pub cache: bool,
    /// Anonymous volumes that no container has.
    pub volumes: bool,
    /// `--all`.
    pub all: bool,
    /// Which of the containers and images.
    pub filter: PruneFilter,
}

/// `--filter` of `kiln prune` and its relatives: all of it must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// Made before this time, unix nanoseconds.
    pub until: Option<i64>,
    /// With these labels.
    pub labels: LabelFilter,
    /// Without these labels: only what has all of them stays, as with docker.
    pub not_labels: LabelFilter,
}

impl PruneFilter {
    /// Tells whether what was `created` then (unix nanoseconds) and has `labels` is to go.
    pub fn takes(&self, created: i64, labels: &BTreeMap<String, String>) -> bool {
        self.until.is_none_or(|until| created < until)
            && self.labels.has_all(labels)
            && (self.not_labels.is_empty() || !self.not_labels.has_all(labels))
    }
}

/// What `kiln prune` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// What became of images.
    pub images: Vec<Removed>,
    /// Cache records dropped.
    pub records: u64,
    /// Names of the cache mounts of RUN steps that were removed, sorted.
    pub cache_mounts: Vec<String>,
    /// Bytes freed.
    pub bytes: u64,
}

/// What `kiln pull` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// `sha256:…` of what the registry has under the name.
    pub digest: String,
    /// Whether anything was new.
    pub updated: bool,
}

/// What `kiln push` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docker 20.10.24: `--filter label!=a=1 --filter label!=b=2` removes what lacks one of them.
    #[test]
    fn only_what_has_all_unwanted_labels_stays() {
        let list = |pairs: &[(&str, Option<&str>)]| {
            LabelFilter(pairs.iter().map(|(key, value)| ((*key).into(), value.map(str::to_owned))).collect())
        };
        let both = list(&[("a", Some("1")), ("b", Some("2"))]);
        let filter = PruneFilter { not_labels: both, ..PruneFilter::default() };
        for (labels, goes) in [(&[][..], true), (&["a1"], true), (&["b2"], true), (&["a1", "b2"], false)] {
            let labels = labels.iter().map(|label| (label[..1].to_owned(), label[1..].to_owned())).collect();
            assert_eq!(filter.takes(5, &labels), goes, "{labels:?}");
        }
        assert!(PruneFilter::default().takes(5, &BTreeMap::new()));
    }
}
