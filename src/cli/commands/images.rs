//! `kiln images`

use serde_json::Value;

use super::filter;
use crate::api::{ImageInfo, LabelFilter};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags, glob, text, time, units};

/// `kiln images`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Images {
    /// Show all images; kiln keeps no intermediate ones
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Show only what fits: dangling=, label=, reference=, before=, since=, until=
    #[arg(long, short, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Don't shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show only ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Only images of this name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

const COLUMNS: Columns = &[
    ("Repository", "REPOSITORY", true),
    ("Tag", "TAG", true),
    ("ID", "IMAGE ID", true),
    ("CreatedSince", "CREATED", true),
    ("Size", "SIZE", true),
    ("Digest", "DIGEST", false),
    ("CreatedAt", "CREATED AT", false),
    ("Containers", "CONTAINERS", false),
    ("SharedSize", "SHARED SIZE", false),
    ("UniqueSize", "UNIQUE SIZE", false),
    ("VirtualSize", "SIZE", false),
];

const WITH_DIGESTS: Columns = &[
    ("Repository", "REPOSITORY", true),
    ("Tag", "TAG", true),
    ("Digest", "DIGEST", true),
    ("ID", "IMAGE ID", true),
    ("CreatedSince", "CREATED", true),
    ("Size", "SIZE", true),
];

/// `--format raw`
const RAW: &str = "\
repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}{{println}}";
/// `--digests --format raw`
const RAW_WITH_DIGESTS: &str = "\
repository: {{.Repository}}
tag: {{.Tag}}
digest: {{.Digest}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}{{println}}";

/// Lists images.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Images = flags::parse(invocation)?;
    let images = invocation.session.engine()?.images()?;
    let filter = Filter::parse(&flags.filter, &images)?;
    // A template may ask for them without the flag.
    let digests = flags.digests || flags.format.as_deref().is_some_and(|format| format.contains("Digest"));
    let mut rows = Vec::new();
    for image in images.iter().filter(|image| filter.keeps(image)) {
        for name in names(image, digests) {
            if filter.keeps_name(&name) && flags.name.as_deref().is_none_or(|wanted| is_named(&name, wanted))
            {
                rows.push((name, image));
            }
        }
    }
    if format::is_quiet(flags.quiet, flags.format.as_deref()) {
        return print_ids(&rows, flags.no_trunc);
    }
    let now = time::now();
    let columns = if flags.digests { WITH_DIGESTS } else { COLUMNS };
    let rows = rows.into_iter().map(|(name, image)| row(&name, image, flags.no_trunc, now)).collect();
    let raw = match (flags.quiet, flags.digests) {
        (true, _) => "image_id: {{.ID}}",
        (false, true) => RAW_WITH_DIGESTS,
        (false, false) => RAW,
    };
    format::print_rows(columns, rows, format::or_raw(flags.format.as_deref(), raw))?;
    Ok(exit::SUCCESS)
}

fn print_ids(rows: &[(Name, &ImageInfo)], whole: bool) -> Result<i32, Error> {
    let mut out = String::new();
    let mut told = std::collections::BTreeSet::new();
    // An image with two names once, so that `rmi -f $(kiln images -q)` finds each that it names.
    for (_, image) in rows.iter().filter(|(_, image)| told.insert(&image.id)) {
        out += if whole { &image.id } else { text::short_id(&image.id) };
        out.push('\n');
    }
    print(&out)?;
    Ok(exit::SUCCESS)
}

fn row(name: &Name, image: &ImageInfo, whole: bool, now: i64) -> Row {
    let none = |text: &Option<String>| Value::from(text.as_deref().unwrap_or("<none>"));
    let id = if whole { image.id.as_str() } else { text::short_id(&image.id) };
    let size = units::size(image.size, 3);
    vec![
        ("Repository", none(&name.repository)),
        ("Tag", none(&name.tag)),
        ("Digest", none(&name.digest)),
        ("ID", id.into()),
        ("CreatedSince", time::ago(image.created.saturating_mul(1_000_000_000), now).into()),
        ("CreatedAt", time::long(image.created).into()),
        ("Size", size.clone().into()),
        ("VirtualSize", size.into()),
        ("Containers", "N/A".into()),
        ("SharedSize", "N/A".into()),
        ("UniqueSize", "N/A".into()),
    ]
}

/// A name of an image, in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Name {
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
}

/// Every row that `image` has: one per tag; one per digest of a repository without a tag; else one without a name.
fn names(image: &ImageInfo, digests: bool) -> Vec<Name> {
    let mut names: Vec<Name> = image.tags.iter().map(|tag| split(tag)).collect();
    for text in &image.digests {
        let Some((repository, digest)) = text.split_once('@') else { continue };
        let mut tagged = false;
        for name in names.iter_mut().filter(|name| name.repository.as_deref() == Some(repository)) {
            tagged = true;
            if digests && name.digest.is_none() {
                name.digest = Some(digest.to_owned());
            }
        }
        if !tagged {
            names.push(Name {
                repository: Some(repository.to_owned()),
                tag: None,
                digest: digests.then(|| digest.to_owned()),
            });
        }
    }
    if names.is_empty() {
        names.push(Name::default());
    }
    names
}

/// Splits `name:tag`; the port of a registry is no tag.
fn split(name: &str) -> Name {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
        _ => (name, None),
    };
    Name { repository: Some(repository.to_owned()), tag, digest: None }
}

/// Tells whether the row's name is `wanted`: a repository, or with its tag.
fn is_named(name: &Name, wanted: &str) -> bool {
    let wanted = wanted
        .strip_prefix("docker.io/library/")
        .or_else(|| wanted.strip_prefix("docker.io/"))
        .unwrap_or(wanted);
    fits(name, wanted)
}

/// Tells whether a pattern fits the row's repository, alone or with its tag.
fn fits(name: &Name, pattern: &str) -> bool {
    let Some(repository) = &name.repository else { return false };
    let with_tag = format!("{repository}:{}", name.tag.as_deref().unwrap_or("<none>"));
    [repository, &with_tag].iter().any(|text| glob::matches(pattern, text) == Some(true))
}

const KEYS: [&str; 6] = ["dangling", "label", "reference", "before", "since", "until"];

/// What `--filter` keeps; filters of one key are joined by "or" where docker does so.
#[derive(Debug, Default)]
struct Filter {
    dangling: Option<bool>,
    labels: LabelFilter,
    references: Vec<String>,
    before: Option<i64>,
    since: Option<i64>,
}

impl Filter {
    fn parse(texts: &[String], images: &[ImageInfo]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = filter::pair(text)?;
            match key {
                "dangling" => filter.dangling = Some(filter::boolean(key, value)?),
                "label" => filter::add_label(&mut filter.labels, value),
                "reference" => {
                    glob::matches(value, "").ok_or_else(|| Error::usage(format!("bad pattern `{value}`")))?;
                    filter.references.push(value.to_owned());
                }
                "before" => filter.before = Some(created(value, images)?),
                "since" => filter.since = Some(created(value, images)?),
                "until" => {
                    let moment = time::parse_moment(value, time::now());
                    let moment = moment.ok_or_else(|| Error::usage(format!("bad time `{value}`")))?;
                    filter.before = Some(moment / 1_000_000_000);
                }
                _ => return Err(filter::unknown(key, &KEYS)),
            }
        }
        Ok(filter)
    }

    fn keeps(&self, image: &ImageInfo) -> bool {
        let dangling = image.tags.is_empty() && image.digests.is_empty();
        self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.labels.has_all(&image.labels)
            && self.before.is_none_or(|before| image.created < before)
            && self.since.is_none_or(|since| image.created > since)
    }

    fn keeps_name(&self, name: &Name) -> bool {
        self.references.is_empty() || self.references.iter().any(|pattern| fits(name, pattern))
    }
}

/// When the image `name` was created.
fn created(name: &str, images: &[ImageInfo]) -> Result<i64, Error> {
    let wanted = split(name);
    let is_it = |image: &&ImageInfo| {
        let hex = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let named = |known: &String| {
            let known = split(known);
            known.repository == wanted.repository
                && known.tag == Some(wanted.tag.clone().unwrap_or_else(|| "latest".into()))
        };
        image.tags.iter().any(named)
            || (name.len() >= 4 && (hex.starts_with(name) || image.id.starts_with(name)))
    };
    let found = images.iter().find(is_it);
    found.map(|image| image.created).ok_or_else(|| Error::usage(format!("no such image: `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str], digests: &[&str], created: i64) -> ImageInfo {
        ImageInfo {
            id: format!("sha256:{id}"),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            digests: digests.iter().map(|&digest| digest.to_owned()).collect(),
            created,
            size: 117_000_000,
            labels: [("stage".to_owned(), "test".to_owned())].into(),
        }
    }

    fn kept(filters: &[&str]) -> Vec<String> {
        let images = [
            image("aaaa", &["debian:bookworm", "localhost:5000/team/app:1"], &["debian@sha256:1"], 300),
            image("bbbb", &[], &[], 200),
            image("cccc", &["old:latest"], &[], 100),
        ];
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let filter = Filter::parse(&filters, &images).unwrap();
        let mut found = Vec::new();
        for image in images.iter().filter(|image| filter.keeps(image)) {
            for name in names(image, false).iter().filter(|name| filter.keeps_name(name)) {
                found.push(name.repository.clone().unwrap_or_else(|| "<none>".into()));
            }
        }
        found
    }

    #[test]
    fn filters_keep_what_fits() {
        for (filters, expected) in [
            (&[][..], &["debian", "localhost:5000/team/app", "<none>", "old"][..]),
            (&["dangling=true"], &["<none>"]),
            (&["dangling=false"], &["debian", "localhost:5000/team/app", "old"]),
            (&["reference=deb*"], &["debian"]),
            (&["reference=*:latest"], &["old"]),
            (&["reference=localhost:5000/team/*"], &["localhost:5000/team/app"]),
            (&["label=stage=test", "before=aaaa"], &["<none>", "old"]),
            (&["label=stage=other"], &[]),
            (&["since=old"], &["debian", "localhost:5000/team/app", "<none>"]),
        ] {
            assert_eq!(kept(filters), expected, "{filters:?}");
        }
        assert!(Filter::parse(&["colour=red".into()], &[]).is_err());
        assert!(Filter::parse(&["before=nothing".into()], &[]).is_err());
    }

    #[test]
    fn names_are_split_at_the_tag_and_not_at_a_port() {
        let parts = |name| {
            let name = split(name);
            (name.repository.unwrap_or_default(), name.tag.unwrap_or_default())
        };
        assert_eq!(parts("debian:bookworm"), ("debian".into(), "bookworm".into()));
        assert_eq!(parts("localhost:5000/a"), ("localhost:5000/a".into(), String::new()));
        assert_eq!(parts("localhost:5000/a:1"), ("localhost:5000/a".into(), "1".into()));
        assert!(is_named(&split("debian:bookworm"), "docker.io/library/debian"));
        assert!(is_named(&split("debian:bookworm"), "debian:bookworm"));
        assert!(!is_named(&split("debian:bookworm"), "deb"));
    }

    #[test]
    fn an_image_known_by_digest_alone_has_a_row() {
        let untagged = image("aaaa", &[], &["debian@sha256:1"], 0);
        let expected = Name { repository: Some("debian".into()), tag: None, digest: Some("sha256:1".into()) };
        assert_eq!(names(&untagged, true), [expected]);
    }
}
