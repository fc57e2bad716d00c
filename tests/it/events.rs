//! `kiln events`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// The actions of a store's events so far, joined by blanks.
fn actions(kiln: &Kiln, filters: &[&str]) -> String {
    let words = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"];
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let words: Vec<&str> = words.into_iter().chain(filters).collect();
    kiln.ok(&words).lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_whole_life_of_containers_is_told() {
    if !needs_root("the_whole_life_of_containers_is_told") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["run", "--rm", "--network", "none", "--name", "once", "-l", "tier=back", "busybox", "true"]);
    assert_eq!(actions(&kiln, &["container=once"]), "create start die destroy");
    kiln.ok(&["run", "-d", "--network", "none", "--name", "web", "busybox", "sleep", "1000"]);
    kiln.ok(&["restart", "-s", "KILL", "web"]);
    assert_eq!(actions(&kiln, &["container=web"]), "create start kill die stop start restart");
    kiln.ok(&["stop", "-t", "0", "web"]);
    kiln.ok(&["rm", "web"]);
    let web = actions(&kiln, &["container=web"]);
    assert!(web.contains(" restart kill") && web.ends_with("die stop destroy"), "{web}");
    assert_eq!(actions(&kiln, &["label=tier=back", "event=die"]), "die");
    let runs = actions(&kiln, &["event=die", "event=start", "image=busybox"]);
    assert_eq!(runs, "start die start die start die");
    kiln.ok(&["tag", "busybox", "other:1"]);
    kiln.ok(&["rmi", "other:1"]);
    assert_eq!(actions(&kiln, &["type=image", "image=other:1"]), "tag untag");

    let line =
        kiln.ok(&["events", "--since", "1h", "--until", "0s", "-f", "container=once", "-f", "event=die"]);
    let attributes = "(execDuration=0, exitCode=0, image=busybox, name=once, tier=back)\n";
    assert!(line.contains("Z container die ") && line.ends_with(attributes), "{line}");
    let words = ["events", "--since", "1h", "--until", "0s", "--format", "json", "-f", "event=destroy"];
    let json = kiln.ok(&words);
    let json: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&json["Type"], &json["status"], &json["from"]),
        (&"container".into(), &"destroy".into(), &"busybox".into())
    );
    assert_eq!(json["Actor"]["Attributes"]["name"], "once");
    // What some events have and others haven't is no mistake.
    let words = ["events", "--since", "1h", "--until", "0s", "-f", "container=once", "--format"];
    let codes = kiln.ok(&[&words[..], &["{{.Action}} {{.Actor.Attributes.exitCode}}"]].concat());
    assert_eq!(codes, "create <no value>\nstart <no value>\ndie 0\ndestroy <no value>\n");
    kiln.run(&["events", "--filter", "colour=red"]).fails_with(&["unknown filter `colour`"]);
    kiln.run(&["events", "--since", "yesterday"]).fails_with(&["--since", "yesterday"]);
}

#[test]
fn what_happens_is_told_while_it_happens() {
    if !needs_root("what_happens_is_told_while_it_happens") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["create", "--name", "before", "busybox", "true"]);
    let words = ["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"];
    let mut follower = kiln.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // It has begun to listen at some time: what is made after that is told.
    let mut made = 0;
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| lines.next().unwrap().unwrap());
        while !first.is_finished() {
            kiln.ok(&["create", "--name", &format!("after{made}"), "busybox", "true"]);
            made += 1;
        }
        first.join().unwrap()
    });
    assert!(first.starts_with("create after"), "{first}");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn further_processes_are_told_and_shown() {
    if !needs_root("further_processes_are_told_and_shown") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["run", "-d", "--network", "none", "--name", "web", "busybox", "sleep", "1000"]);
    let shown = || kiln.ok(&["inspect", "-f", "{{json .ExecIDs}}", "web"]).trim().to_owned();
    assert_eq!(shown(), "null");
    assert_eq!(kiln.run(&["exec", "web", "sh", "-c", "exit 7"]).code, 7);
    let told = actions(&kiln, &["container=web"]);
    assert_eq!(told, "create start exec_create: sh -c exit 7 exec_start: sh -c exit 7 exec_die");
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=exec_die", "--format"];
    let end =
        kiln.ok(&[&words[..], &["{{.Actor.Attributes.exitCode}} {{.Actor.Attributes.execID}}"]].concat());
    assert!(end.starts_with("7 ") && end.trim().len() == 66, "{end}");
    assert_eq!(shown(), "null", "it has ended");
    kiln.ok(&["exec", "-d", "web", "sleep", "1000"]);
    let ids: Vec<String> = serde_json::from_str(&shown()).unwrap();
    assert!(ids.len() == 1 && ids[0].len() == 64, "{ids:?}");
    assert_eq!(kiln.run(&["exec", "web", "nothing"]).code, 127);
    assert!(actions(&kiln, &["container=web"]).ends_with("exec_start: nothing exec_die"));
    kiln.ok(&["kill", "web"]);
    kiln.settle();
    assert_eq!(shown(), "null");
}
