//! How an image was made, line by line. Pure.

use kiln_cache::Digest;

use super::assemble::unix_seconds;
use crate::api::HistoryRow;
use crate::oci::ImageConfig;

/// Returns the rows of `kiln history`, newest first.
///
/// `layer_bytes` are the sizes of the layers, base first; they are given to the lines that made a layer,
/// one after another. Layers beyond the history's end get rows of their own.
pub fn history(id: &Digest, tags: &[String], config: &ImageConfig, layer_bytes: &[u64]) -> Vec<HistoryRow> {
    let mut sizes = layer_bytes.iter().copied();
    let mut rows: Vec<HistoryRow> = config
        .history
        .iter()
        .map(|entry| HistoryRow {
            image: None,
            created: entry.created.as_deref().and_then(unix_seconds),
            created_by: entry.created_by.clone().unwrap_or_default(),
            size: if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: entry.comment.clone().unwrap_or_default(),
            tags: Vec::new(),
        })
        .collect();
    rows.extend(sizes.map(|size| HistoryRow {
        image: None,
        created: None,
        created_by: String::new(),
        size,
        comment: String::new(),
        tags: Vec::new(),
    }));
    rows.reverse();
    if let Some(newest) = rows.first_mut() {
        newest.image = Some(id.to_string());
        newest.tags = tags.to_vec();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::HistoryEntry;

    fn line(by: &str, empty_layer: bool) -> HistoryEntry {
        let created = Some("2026-11-21T10:00:00Z".to_owned());
        HistoryEntry { created, created_by: Some(by.to_owned()), empty_layer, ..HistoryEntry::default() }
    }

    fn rows(history: Vec<HistoryEntry>, sizes: &[u64]) -> Vec<(Option<String>, String, u64)> {
        let config = ImageConfig { history, ..ImageConfig::default() };
        let rows = super::history(&Digest::of(b"x"), &["hello:latest".to_owned()], &config, sizes);
        rows.into_iter()
            .map(|row| (row.image.map(|id| id[..10].to_owned()), row.created_by, row.size))
            .collect()
    }

    #[test]
    fn lines_are_paired_with_layers_and_shown_newest_first() {
        let id = Some(Digest::of(b"x").to_string()[..10].to_owned());
        let lines = vec![line("ADD", false), line("ENV", true), line("RUN", false)];
        assert_eq!(
            rows(lines, &[10, 20]),
            [(id.clone(), "RUN".into(), 20), (None, "ENV".into(), 0), (None, "ADD".into(), 10)]
        );
        assert_eq!(rows(vec![], &[7]), [(id, String::new(), 7)]);
    }

    #[test]
    fn a_history_that_promises_more_layers_than_there_are_does_no_harm() {
        assert_eq!(rows(vec![line("a", false), line("b", false)], &[1]).len(), 2);
    }
}
