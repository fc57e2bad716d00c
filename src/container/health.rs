//! How a container's health is looked at: what the user leaves open comes from the image, and then from docker.

use crate::api::{HealthCheck, HealthRequest};
use crate::oci::Healthcheck;

const SECOND: i64 = 1_000_000_000;
const INTERVAL: i64 = 30 * SECOND;
const TIMEOUT: i64 = 30 * SECOND;
const START_INTERVAL: i64 = 5 * SECOND;
const RETRIES: u32 = 3;

/// Gives the check of a container, if it has one.
pub(super) fn check(image: Option<&Healthcheck>, request: &HealthRequest) -> Option<HealthCheck> {
    let image = image.cloned().unwrap_or_default();
    let test = match &request.command {
        _ if request.none => return None,
        Some(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
        None => image.test,
    };
    if test.len() < 2 || test[0] == "NONE" {
        return None;
    }
    // Zero stands for what is left open.
    let time = |user: Option<i64>, image: i64, default| {
        [user.unwrap_or(0), image].into_iter().find(|time| *time > 0).unwrap_or(default)
    };
    let retries = [request.retries.unwrap_or(0), u32::try_from(image.retries).unwrap_or(0)];
    Some(HealthCheck {
        test,
        interval: time(request.interval, image.interval, INTERVAL),
        timeout: time(request.timeout, image.timeout, TIMEOUT),
        start_period: time(request.start_period, image.start_period, 0),
        start_interval: time(request.start_interval, image.start_interval, START_INTERVAL),
        retries: retries.into_iter().find(|retries| *retries > 0).unwrap_or(RETRIES),
    })
}

/// Gives the program of a check and its arguments; a line is run by the image's `shell`.
pub(super) fn command(check: &HealthCheck, shell: &[String]) -> Vec<String> {
    match check.test.split_first() {
        Some((kind, [line, ..])) if kind == "CMD-SHELL" => {
            let default = || ["/bin/sh", "-c"].map(str::to_owned).to_vec();
            let mut command = if shell.is_empty() { default() } else { shell.to_vec() };
            command.push(line.clone());
            command
        }
        Some((_, command)) => command.to_vec(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_words_win_over_the_images_and_those_over_dockers() {
        let of = |test: &[&str]| Healthcheck {
            test: test.iter().map(|&word| word.to_owned()).collect(),
            interval: 7,
            retries: 2,
            ..Healthcheck::default()
        };
        let image = of(&["CMD", "probe", "-v"]);
        let request = HealthRequest { timeout: Some(5), interval: Some(0), ..HealthRequest::default() };
        let merged = check(Some(&image), &request).unwrap();
        assert_eq!(
            (merged.interval, merged.timeout, merged.start_interval, merged.retries),
            (7, 5, START_INTERVAL, 2)
        );
        assert_eq!(command(&merged, &["/bin/ash".into()]), ["probe", "-v"]);
        let request = HealthRequest { command: Some("true && x".into()), ..request };
        let merged = check(None, &request).unwrap();
        assert_eq!(
            (command(&merged, &[]).join(" ").as_str(), merged.retries),
            ("/bin/sh -c true && x", RETRIES)
        );
        assert_eq!(command(&merged, &["/bin/ash".into(), "-ec".into()]), ["/bin/ash", "-ec", "true && x"]);
        assert_eq!(check(Some(&image), &HealthRequest { none: true, ..HealthRequest::default() }), None);
        for none in [&["NONE"][..], &[], &["CMD"]] {
            assert_eq!(check(Some(&of(none)), &HealthRequest::default()), None, "{none:?}");
        }
    }
}
