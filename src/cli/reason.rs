//! The line that says why a step ran.

use super::{text, time};
use crate::api::{FileAspect, FileChange, MissReason};

/// Columns of a step's name or of a file's path.
const NAME_COLUMNS: usize = 100;

/// Says it in one harmless line: `src/main.rs changed`.
pub(crate) fn line(reasons: &[MissReason]) -> String {
    reasons.iter().map(cause).collect::<Vec<_>>().join("; ")
}

fn cause(reason: &MissReason) -> String {
    match reason {
        MissReason::NeverBuilt => "never built before".to_owned(),
        MissReason::NewStep => "new step".to_owned(),
        MissReason::Instruction { flags } if flags.is_empty() => "the instruction changed".to_owned(),
        MissReason::Instruction { flags } => format!("the instruction changed: {}", all(flags)),
        MissReason::Heredoc => "its heredoc changed".to_owned(),
        MissReason::Arg { names } => format!("ARG {} changed", all(names)),
        MissReason::Env { names } => format!("ENV {} changed", all(names)),
        MissReason::Setting { names } => format!("{} changed", all(names)),
        MissReason::Files { changed, .. } if changed.is_empty() => "its files changed".to_owned(),
        MissReason::Files { changed, more } => {
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            changed.iter().map(file).collect::<Vec<_>>().join(", ") + &more
        }
        MissReason::Remote { what, from: Some(from), to: Some(to) } => {
            format!("{} changed{}", safe(what), from_to(Some(from), to))
        }
        MissReason::Remote { what, .. } => format!("the {} at its address changed", safe(what)),
        MissReason::Base { name, was: Some(was), .. } => format!("base {} was {}", safe(name), safe(was)),
        MissReason::Base { name, was: None, from, to } => {
            format!("base {} changed{}", safe(name), from_to(from.as_deref(), to))
        }
        MissReason::EarlierStep { name, ran: true } => format!("earlier step {} ran", safe(name)),
        MissReason::EarlierStep { name, ran: false } => format!("earlier step {} changed", safe(name)),
        MissReason::StepRemoved { name } => format!("earlier step {} is gone", safe(name)),
        MissReason::Order => "the steps before it changed".to_owned(),
        MissReason::NoCache => "--no-cache".to_owned(),
        MissReason::NoCacheFilter => "--no-cache-filter".to_owned(),
        MissReason::Expired { created } => {
            format!("its result of {} is older than --cache-ttl", time::rfc3339(*created))
        }
        MissReason::Collected { at: Some(at) } => format!("its result was collected {}", time::rfc3339(*at)),
        MissReason::Collected { at: None } => "its result was collected".to_owned(),
        MissReason::Lost => "its result went away meanwhile".to_owned(),
        MissReason::Upgraded => "this kiln makes it in another way".to_owned(),
        MissReason::FailedLastTime => "failed last time".to_owned(),
    }
}

fn file(change: &FileChange) -> String {
    let path = safe(&change.path);
    match change.what {
        FileAspect::Added => format!("{path} added"),
        FileAspect::Removed => format!("{path} removed"),
        FileAspect::Content => format!("{path} changed"),
        FileAspect::Mode => format!("mode of {path} changed"),
        FileAspect::Owner => format!("owner of {path} changed"),
        FileAspect::Kind => format!("kind of {path} changed"),
        FileAspect::Target => format!("target of {path} changed"),
        FileAspect::Attributes => format!("attributes of {path} changed"),
    }
}

fn from_to(from: Option<&str>, to: &str) -> String {
    let from = from.map(|from| format!(" from {}", safe(text::short_id(from)))).unwrap_or_default();
    format!("{from} to {}", safe(text::short_id(to)))
}

fn all(names: &[String]) -> String {
    names.iter().map(|name| safe(name)).collect::<Vec<_>>().join(", ")
}

/// A name of somebody else's: on one line, of a bounded length, and nothing in it steers a terminal.
fn safe(name: &str) -> String {
    text::ellipsis(&text::harmless(text::one_line(name).as_bytes()), NAME_COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn change(path: &str, what: FileAspect) -> FileChange {
        FileChange { path: path.to_owned(), what }
    }

    #[test]
    fn each_cause_has_its_words() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let base = |was: Option<&str>, from: Option<&str>| MissReason::Base {
            name: "busybox:latest".to_owned(),
            was: was.map(str::to_owned),
            from: from.map(digest),
            to: digest("b"),
        };
        let files = |changed, more| MissReason::Files { changed, more };
        let step = |ran| MissReason::EarlierStep { name: "[2/3] RUN a".to_owned(), ran };
        let (from, to) = (Some("a".repeat(40)), Some("b".repeat(40)));
        use FileAspect as F;
        for (reason, expected) in [
            (MissReason::NeverBuilt, "never built before"),
            (MissReason::NewStep, "new step"),
            (MissReason::Instruction { flags: vec![] }, "the instruction changed"),
            (
                MissReason::Instruction { flags: names("--chown --chmod") },
                "the instruction changed: --chown, --chmod",
            ),
            (MissReason::Heredoc, "its heredoc changed"),
            (MissReason::Arg { names: names("A") }, "ARG A changed"),
            (MissReason::Env { names: names("A B") }, "ENV A, B changed"),
            (MissReason::Setting { names: names("USER --network") }, "USER, --network changed"),
            (files(vec![change("src/main.rs", F::Content)], 0), "src/main.rs changed"),
            (
                files(vec![change("a", F::Added), change("b", F::Removed)], 17),
                "a added, b removed and 17 more",
            ),
            (
                files(vec![change("a", F::Mode), change("a", F::Owner)], 0),
                "mode of a changed, owner of a changed",
            ),
            (
                files(vec![change("a", F::Kind), change("a", F::Target)], 0),
                "kind of a changed, target of a changed",
            ),
            (files(vec![change("a", F::Attributes)], 0), "attributes of a changed"),
            (files(vec![], 0), "its files changed"),
            (
                MissReason::Remote { what: "commit".to_owned(), from, to },
                "commit changed from aaaaaaaaaaaa to bbbbbbbbbbbb",
            ),
            (
                MissReason::Remote { what: "content".to_owned(), from: None, to: None },
                "the content at its address changed",
            ),
            (base(None, Some("a")), "base busybox:latest changed from aaaaaaaaaaaa to bbbbbbbbbbbb"),
            (base(None, None), "base busybox:latest changed to bbbbbbbbbbbb"),
            (base(Some("alpine"), Some("a")), "base busybox:latest was alpine"),
            (step(true), "earlier step [2/3] RUN a ran"),
            (step(false), "earlier step [2/3] RUN a changed"),
            (MissReason::StepRemoved { name: "RUN a".to_owned() }, "earlier step RUN a is gone"),
            (MissReason::Order, "the steps before it changed"),
            (MissReason::NoCache, "--no-cache"),
            (MissReason::NoCacheFilter, "--no-cache-filter"),
            (
                MissReason::Expired { created: 0 },
                "its result of 1970-01-01T00:00:00Z is older than --cache-ttl",
            ),
            (MissReason::Collected { at: None }, "its result was collected"),
            (MissReason::Collected { at: Some(0) }, "its result was collected 1970-01-01T00:00:00Z"),
            (MissReason::Lost, "its result went away meanwhile"),
            (MissReason::Upgraded, "this kiln makes it in another way"),
            (MissReason::FailedLastTime, "failed last time"),
        ] {
            assert_eq!(line(std::slice::from_ref(&reason)), expected, "{reason:?}");
        }
        assert_eq!(line(&[MissReason::Heredoc, MissReason::NoCache]), "its heredoc changed; --no-cache");
    }

    #[test]
    fn names_cannot_steer_the_terminal_or_fill_it() {
        let hostile = change("a\u{1b}[2J\n#9 DONE\u{202e}\u{9b}1m", FileAspect::Content);
        let shown = line(&[MissReason::Files { changed: vec![hostile], more: 0 }]);
        assert_eq!(shown, "a [2J #9 DONE 1m changed");
        let long = line(&[MissReason::StepRemoved { name: "x".repeat(5000) }]);
        assert!(long.chars().count() < 140, "{long}");
    }
}
