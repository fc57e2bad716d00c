//! `-c`: Dockerfile instructions that change how containers of an image run, without a build.

use kiln_grammar::ast::{CommandLine, Healthcheck, Instruction, Kind, Pair};
use kiln_grammar::word::{self, Lookup};
use kiln_grammar::{Source, parse};

use crate::api::{Failure, FailureKind};
use crate::oci::{self, Empty, RunConfig};

const ESCAPE: char = '\\';

/// Applies `changes`, each one instruction, in order; nothing is applied when one is wrong.
///
/// As docker, takes CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER,
/// VOLUME and WORKDIR.
pub(super) fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), Failure> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut text = String::from("FROM scratch\n");
    for change in changes {
        text.push_str(change);
        text.push('\n');
    }
    let file = parse("--change", text.as_bytes()).map_err(|mistakes| {
        let mut failure =
            Failure::new(FailureKind::Invalid, "a change is not an instruction that can be applied");
        let source = Source { name: "--change", text: &text };
        failure.diagnostics = mistakes.iter().map(|mistake| mistake.render(&source)).collect();
        failure
    })?;
    if file.stages.len() > 1 {
        return Err(Failure::new(FailureKind::Invalid, "FROM is not valid as a change"));
    }
    let mut changed = config.clone();
    let mut has_cmd = false;
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        has_cmd |= matches!(instruction.kind, Kind::Cmd(_));
        change(&mut changed, instruction, has_cmd).map_err(|reason| {
            Failure::new(FailureKind::Invalid, format!("cannot apply `{}`: {reason}", instruction.original))
        })?;
    }
    *config = changed;
    Ok(())
}

/// A new entrypoint takes the image's CMD away, but not one that was given among the changes.
fn change(config: &mut RunConfig, instruction: &Instruction, has_cmd: bool) -> Result<(), String> {
    let env = config.env.clone();
    let vars = move |name: &str| value(&env, name).map(str::to_owned);
    match &instruction.kind {
        Kind::Cmd(line) => config.cmd = Some(command(config, line)),
        Kind::Entrypoint(line) => {
            config.entrypoint = Some(command(config, line));
            config.cmd = config.cmd.take().filter(|_| has_cmd);
        }
        Kind::Env(pairs) => {
            for (key, value) in expanded(pairs, &vars)? {
                set_env(&mut config.env, &key, &value);
            }
        }
        Kind::Label(pairs) => config.labels.extend(expanded(pairs, &vars)?),
        Kind::Expose(ports) => {
            for port in ports {
                for port in list(&port.text, &vars)? {
                    let ports = oci::parse_ports(&port)?;
                    config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
                }
            }
        }
        Kind::Volume(paths) => {
            for path in paths {
                config.volumes.insert(one(&path.text, &vars)?, Empty {});
            }
        }
        Kind::Workdir(path) => {
            let path = one(&path.text, &vars)?;
            let base = std::path::Path::new("/").join(&config.working_dir);
            config.working_dir = base.join(path).display().to_string();
        }
        Kind::User(user) => config.user = one(&user.text, &vars)?,
        Kind::Onbuild(trigger) => config.on_build.push(trigger.text.clone()),
        Kind::Stopsignal(signal) => {
            let signal = one(&signal.text, &vars)?;
            oci::parse_signal(&signal).ok_or_else(|| format!("`{signal}` is no signal"))?;
            config.stop_signal = Some(signal);
        }
        Kind::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)),
        Kind::Shell(shell) => config.shell = Some(shell.clone()),
        Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Arg(_) | Kind::Maintainer(_) => {
            return Err("it is not valid as a change".to_owned());
        }
    }
    Ok(())
}

/// The shell form is run by the image's shell.
fn command(config: &RunConfig, line: &CommandLine) -> Vec<String> {
    match line {
        CommandLine::Exec(args) => args.clone(),
        CommandLine::Shell(line) => {
            let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            shell.into_iter().chain([line.clone()]).collect()
        }
    }
}

fn healthcheck(check: &Healthcheck) -> oci::Healthcheck {
    match check {
        Healthcheck::None => oci::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
        Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                CommandLine::Exec(args) => [&["CMD".to_owned()], args.as_slice()].concat(),
                CommandLine::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            };
            oci::Healthcheck {
                test,
                interval: *interval,
                timeout: *timeout,
                start_period: *start_period,
                start_interval: *start_interval,
                retries: i64::from(*retries),
            }
        }
    }
}

fn expanded(pairs: &[Pair], vars: &dyn Lookup) -> Result<Vec<(String, String)>, String> {
    pairs.iter().map(|pair| Ok((one(&pair.key.text, vars)?, one(&pair.value.text, vars)?))).collect()
}

fn one(text: &str, vars: &dyn Lookup) -> Result<String, String> {
    word::expand(text, ESCAPE, vars).map_err(|error| error.to_string())
}

fn list(text: &str, vars: &dyn Lookup) -> Result<Vec<String>, String> {
    word::expand_list(text, ESCAPE, vars).map_err(|error| error.to_string())
}

fn value<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter()
        .rev()
        .find_map(|line| line.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let line = format!("{key}={value}");
    match env.iter_mut().find(|line| line.split_once('=').is_some_and(|(known, _)| known == key)) {
        Some(known) => *known = line,
        None => env.push(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<RunConfig, Failure> {
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn instructions_change_the_config() {
        let config = changed(&[
            "ENV A=1 B=\"two words\"",
            "ENV C=$A$A",
            "CMD echo hi",
            "ENTRYPOINT [\"/bin/app\"]",
            "CMD [\"x\"]",
            "EXPOSE 80 90-91/udp",
            "LABEL k=v",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER nobody",
            "VOLUME /data",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN make",
        ])
        .unwrap();
        assert_eq!(config.env, ["A=1", "B=two words", "C=11"]);
        assert_eq!(
            (config.entrypoint.unwrap(), config.cmd.unwrap()),
            (vec!["/bin/app".into()], vec!["x".into()])
        );
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/app", "nobody"));
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn an_entrypoint_keeps_the_command_that_is_given_beside_it() {
        let cmd = Some(vec!["x".to_owned()]);
        for (changes, expected) in [
            (&["CMD [\"x\"]", "ENTRYPOINT [\"y\"]"][..], &cmd),
            (&["ENTRYPOINT [\"y\"]", "CMD [\"x\"]"], &cmd),
            (&["ENTRYPOINT [\"y\"]"], &None),
        ] {
            assert_eq!(changed(changes).unwrap().cmd, *expected, "{changes:?}");
        }
    }

    #[test]
    fn other_instructions_are_refused() {
        for change in ["RUN true", "COPY a b", "FORM x", "FROM scratch"] {
            assert!(changed(&["ENV A=1", change]).is_err(), "{change}");
        }
    }
}
