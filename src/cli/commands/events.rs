//! `kiln events`

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::filter;
use super::logs::moment;
use crate::api::{EngineEvent, EventsRequest, LabelFilter};
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::template::Template;
use crate::cli::{exit, flags, time};

/// Its place in the table.
pub(crate) const ENTRY: Entry =
    command!(Other, "events", "Get real time events of containers and images", "[OPTIONS]", Events, run);

/// `kiln events`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Events {
    /// Show only what fits: container=, event=, image=, label=, network=, scope=, type=, volume=
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Begin with this time (2026-11-21T10:00:00Z) or this long ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at this time, or this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Prints what happens, as it happens.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Events = flags::parse(invocation)?;
    let now = time::now();
    let request = span(&flags, now)?;
    let filter = Filter::parse(&flags.filter)?;
    let template = match flags.format.as_deref().map(str::trim).filter(|format| !format.is_empty()) {
        None => None,
        Some("json") => Some(None),
        Some(text) => Some(Some(Template::parse(text)?)),
    };
    let mut failed = None;
    invocation.session.engine()?.events(&request, &mut |event| {
        if !filter.keeps(&event) {
            return Ok(true);
        }
        let text = match &template {
            None => line(&event),
            Some(None) => as_json(&event).to_string(),
            Some(Some(template)) => match template.render(&fields(&event)) {
                Ok(text) => text,
                Err(error) => {
                    failed = Some(error);
                    return Ok(false);
                }
            },
        };
        // One call each: nothing waits for the next event.
        io::stdout().lock().write_all((text + "\n").as_bytes())?;
        io::stdout().flush()?;
        Ok(true)
    })?;
    failed.map_or(Ok(exit::SUCCESS), |error| Err(error.into()))
}

/// Reads when to begin and to end. Docker's `--until 0` has all that there was, and waits for nothing.
fn span(flags: &Events, now: i64) -> Result<EventsRequest, Error> {
    let since = moment("--since", flags.since.as_deref(), now)?;
    let until =
        moment("--until", flags.until.as_deref().map(|text| if text == "0" { "0s" } else { text }), now)?;
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            Err(Error::usage("`--since` can't be after `--until`").hint("exchange the two times"))
        }
        _ => Ok(EventsRequest { since, until }),
    }
}

/// Docker's line: `2026-11-21T10:00:00.000000000Z container start 0123… (image=busybox, name=web)`.
fn line(event: &EngineEvent) -> String {
    let mut text = format!("{} {} {} {}", time::precise(event.time), event.kind, event.action, event.id);
    let attributes: Vec<String> =
        event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !attributes.is_empty() {
        let _ = write!(text, " ({})", attributes.join(", "));
    }
    text
}

/// The engine API's object.
fn as_json(event: &EngineEvent) -> Value {
    let mut value = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    });
    if event.kind == "container" || event.kind == "image" {
        value["status"] = json!(event.action);
        value["id"] = json!(event.id);
        if let Some(image) = event.attributes.get("image") {
            value["from"] = json!(image);
        }
    }
    value
}

/// The fields of templates, as docker's code names them.
fn fields(event: &EngineEvent) -> Value {
    json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "Scope": "local",
        "Time": event.time / 1_000_000_000,
        "TimeNano": event.time,
        "Status": event.action,
        "ID": event.id,
        "From": event.attributes.get("image").cloned().unwrap_or_default(),
    })
}

/// What `--filter` keeps: values of one key are joined by "or", keys by "and", labels by "and".
#[derive(Debug, Default)]
struct Filter {
    labels: LabelFilter,
    others: Vec<(&'static str, Vec<String>)>,
}

/// The filters that docker has here.
const KEYS: [&str; 9] =
    ["container", "daemon", "event", "image", "label", "network", "scope", "type", "volume"];

impl Filter {
    fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = filter::pair(text)?;
            let known = KEYS.into_iter().find(|known| *known == key);
            let key = known.ok_or_else(|| filter::unknown(key, &KEYS))?;
            if key == "label" {
                filter::add_label(&mut filter.labels, value);
                continue;
            }
            match filter.others.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value.to_owned()),
                None => filter.others.push((key, vec![value.to_owned()])),
            }
        }
        Ok(filter)
    }

    fn keeps(&self, event: &EngineEvent) -> bool {
        let fits = |(key, values): &(&str, Vec<String>)| values.iter().any(|value| fits(event, key, value));
        self.labels.has_all(&event.attributes) && self.others.iter().all(fits)
    }
}

fn fits(event: &EngineEvent, key: &str, value: &str) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let named = |kind: &str| {
        event.kind == kind && (event.id.starts_with(value) || attribute("name").starts_with(value))
    };
    match key {
        "type" => event.kind == value,
        "scope" => value == "local",
        // `exec_start` means also `exec_start: sh`.
        "event" => {
            event.action.strip_prefix(value).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        }
        "image" => {
            let name = if event.kind == "image" { attribute("name") } else { attribute("image") };
            let untagged = name.rsplit_once(':').map_or(name, |(name, _)| name);
            (event.kind == "image" && event.id == value) || name == value || untagged == value
        }
        // One store is one daemon, whose name nobody gave.
        "daemon" => false,
        kind => named(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EngineEvent {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        EngineEvent {
            time: 1_700_000_000_000_000_001,
            kind: "container".into(),
            action: "exec_start: sh".into(),
            id: "abc".into(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn a_line_has_dockers_form() {
        assert_eq!(
            line(&event()),
            "2023-11-14T22:13:20.000000001Z container exec_start: sh abc (image=busybox:1, name=web, tier=front)"
        );
    }

    #[test]
    fn an_end_at_0_is_now_and_one_before_the_beginning_is_refused() {
        let asked = |since: &str, until: &str| {
            let (since, until) = (Some(since.to_owned()), Some(until.to_owned()));
            let request = span(&Events { since, until, ..Events::default() }, 5_000_000_000).ok()?;
            Some((request.since, request.until))
        };
        assert_eq!(asked("", "0"), Some((None, Some(5_000_000_000))));
        assert_eq!(asked("1", "0"), Some((Some(1_000_000_000), Some(5_000_000_000))));
        assert_eq!(asked("3", "2"), None);
        assert_eq!(asked("2", "2"), Some((Some(2_000_000_000), Some(2_000_000_000))));
    }

    #[test]
    fn filters_keep_what_fits() {
        for (filters, expected) in [
            (&[][..], true),
            (&["type=container"], true),
            (&["type=image"], false),
            (&["event=exec_start"], true),
            (&["event=exec"], false),
            (&["event=die", "event=exec_start: sh"], true),
            (&["container=web"], true),
            (&["container=ab"], true),
            (&["container=db"], false),
            (&["image=busybox"], true),
            (&["image=busy"], false),
            (&["label=tier"], true),
            (&["label=tier=front", "label=none"], false),
            (&["type=container", "event=die"], false),
            (&["volume=web"], false),
        ] {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            let filter = Filter::parse(&filters).unwrap();
            assert_eq!(filter.keeps(&event()), expected, "{filters:?}");
        }
        assert!(Filter::parse(&["colour=red".to_owned()]).is_err());
    }
}
