//! `kiln volume create`, `ls`, `inspect`, `rm`, `prune` and `rename`, and what belongs to containers.

use serde_json::Value;

use crate::support::binary::{Kiln, Ran};
use crate::support::needs_root;

impl Ran {
    /// Itself; panics when `run` or `create` did not refuse with all of these words on standard error.
    pub(crate) fn refused_with(self, words: &[&str]) -> Self {
        assert!([1, 125].contains(&self.code), "{self}");
        for word in words {
            assert!(self.error.contains(word), "`{word}` is missing in:\n{self}");
        }
        self
    }
}

/// Runs a container without a network to its end.
fn run(kiln: &Kiln, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["run", "--network", "none"].iter().chain(words).copied().collect();
    kiln.run(&words)
}

fn names(kiln: &Kiln, filters: &[&str]) -> String {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let words: Vec<&str> = ["volume", "ls", "-q"].into_iter().chain(filters).collect();
    kiln.ok(&words).lines().collect::<Vec<_>>().join(" ")
}

fn inspected(kiln: &Kiln, words: &[&str]) -> Value {
    let all: Value = serde_json::from_str(&kiln.ok(words)).unwrap();
    all[0].clone()
}

#[test]
fn volumes_are_made_listed_and_shown_as_dockers() {
    if !needs_root("volumes_are_made_listed_and_shown_as_dockers") {
        return;
    }
    let kiln = Kiln::busybox();
    assert_eq!(kiln.ok(&["volume", "ls"]), "DRIVER    VOLUME NAME\n");
    assert_eq!(kiln.ok(&["volume", "create", "--label", "tier=db", "data"]), "data\n");
    assert_eq!(kiln.ok(&["volume", "create", "data"]), "data\n", "it stays");
    let anonymous = kiln.ok(&["volume", "create"]);
    assert_eq!(anonymous.trim().len(), 64);
    kiln.ok(&["create", "-v", "other:/x", "busybox", "true"]);
    for (filters, expected) in [
        (&["name=data"][..], "data"),
        (&["label=tier"], "data"),
        (&["label=tier=web"], ""),
        (&["dangling=false"], "other"),
        (&["driver=local", "name=t"], "data other"),
        (&["driver=nfs"], ""),
    ] {
        assert_eq!(names(&kiln, filters), expected, "{filters:?}");
    }
    let table = kiln.ok(&["volume", "ls", "-f", "name=data"]);
    assert_eq!(table, "DRIVER    VOLUME NAME\nlocal     data\n");
    assert_eq!(
        kiln.ok(&["volume", "ls", "-f", "name=data", "--format", "{{.Name}} {{.Labels}}"]),
        "data tier=db\n"
    );
    let shown = inspected(&kiln, &["volume", "inspect", "data"]);
    let mountpoint = kiln.root().join("volumes/data/_data");
    assert_eq!(shown["Mountpoint"].as_str(), mountpoint.to_str());
    assert_eq!((&shown["Driver"], &shown["Scope"]), (&"local".into(), &"local".into()));
    assert_eq!((&shown["Labels"]["tier"], &shown["Options"]), (&"db".into(), &Value::Null));
    assert!(shown["CreatedAt"].as_str().unwrap().starts_with("20"));
    assert_eq!(inspected(&kiln, &["inspect", "data"]), shown, "by its name alone, too");
    assert_eq!(inspected(&kiln, &["inspect", "--type", "volume", "data"]), shown);
    kiln.run(&["volume", "create", "--label", "tier=web", "data"]).fails_with(&["already exists", "labels"]);
    kiln.run(&["volume", "create", "-d", "nfs", "x1"]).fails_with(&["no volume driver `nfs`"]);
    kiln.run(&["volume", "ls", "-f", "colour=red"]).fails_with(&["unknown filter `colour`"]);
    kiln.run(&["volume", "inspect", "missing"]).fails_with(&["no such volume: missing", "kiln volume ls"]);
    kiln.run(&["inspect", "missing"]).fails_with(&["no such container, image, network or volume: `missing`"]);
}

#[test]
fn names_lead_nowhere_else() {
    if !needs_root("names_lead_nowhere_else") {
        return;
    }
    let kiln = Kiln::busybox();
    let victim = kiln.scratch().join("victim");
    std::fs::create_dir_all(victim.join("_data")).unwrap();
    kiln.ok(&["volume", "create", "data"]);
    for name in ["..", "../../victim", "a/b", "/etc", ".lock", ".removed", "-x", "a b", "ä1", "x"] {
        kiln.run(&["volume", "create", "--", name]).refused_with(&["is not a volume name"]);
        kiln.run(&["volume", "rm", "-f", "--", name]).refused_with(&["is not a volume name"]);
        kiln.run(&["volume", "rename", "data", "--", name]).refused_with(&["is not a volume name"]);
        kiln.run(&["volume", "inspect", "--", name]).refused_with(&["is not a volume name"]);
    }
    for name in ["..", "../../victim", "a/b", ".lock"] {
        let mount = format!("src={name},dst=/x");
        run(&kiln, &["--mount", &mount, "busybox", "true"]).refused_with(&["not a volume name"]);
    }
    assert!(victim.join("_data").exists());
    assert_eq!(names(&kiln, &[]), "data");
}

#[test]
fn what_a_container_has_is_not_removed() {
    if !needs_root("what_a_container_has_is_not_removed") {
        return;
    }
    let kiln = Kiln::busybox();
    run(&kiln, &["--name", "web", "-v", "data:/data2", "busybox", "sh", "-c", "echo kept > /data2/file"])
        .ok();
    kiln.ok(&["create", "--name", "db", "-v", "data:/x", "busybox", "true"]);
    for words in
        [&["volume", "rm", "data"][..], &["volume", "rm", "-f", "data"], &["volume", "rename", "data", "new"]]
    {
        kiln.run(words).fails_with(&["volume `data` is in use by", "container `web`", "container `db`"]);
    }
    kiln.ok(&["rm", "-v", "web", "db"]);
    let again = run(&kiln, &["--rm", "-v", "data:/x", "busybox", "cat", "/x/file"]).ok();
    assert_eq!(again.out, "kept\n", "a volume with a name outlives its containers");
    kiln.ok(&["volume", "rename", "data", "new"]);
    assert_eq!(run(&kiln, &["--rm", "-v", "new:/x", "busybox", "cat", "/x/file"]).ok().out, "kept\n");
    kiln.ok(&["volume", "create", "two"]);
    kiln.run(&["volume", "rename", "new", "two"]).fails_with(&["`two` already exists"]);
    assert_eq!(kiln.ok(&["volume", "rm", "new", "two"]), "new\ntwo\n");
    kiln.run(&["volume", "rm", "new"]).fails_with(&["no such volume: new"]);
    kiln.ok(&["volume", "rm", "-f", "new"]);
    assert_eq!(names(&kiln, &[]), "");
}

#[test]
fn anonymous_volumes_go_with_their_last_container() {
    if !needs_root("anonymous_volumes_go_with_their_last_container") {
        return;
    }
    let kiln = Kiln::busybox();
    run(&kiln, &["--rm", "-v", "/x", "busybox", "true"]).ok();
    assert_eq!(names(&kiln, &[]), "", "--rm takes them along");
    run(&kiln, &["--name", "one", "-v", "/x", "-v", "data:/y", "busybox", "true"]).ok();
    kiln.ok(&["rm", "one"]);
    assert_eq!(names(&kiln, &[]).split(' ').count(), 2, "without -v they stay");
    run(&kiln, &["--name", "two", "-v", "/x", "-v", "data:/y", "busybox", "true"]).ok();
    kiln.ok(&["rm", "-v", "two"]);
    assert_eq!(names(&kiln, &["name=data"]), "data", "those with a name stay");
    let kept = kiln.ok(&["volume", "prune", "-f"]);
    assert!(kept.starts_with("Deleted Volumes:\n") && kept.contains("Total reclaimed space: "), "{kept}");
    assert_eq!(names(&kiln, &[]), "data", "a prune takes anonymous ones alone");
}

#[test]
fn a_prune_takes_what_nobody_has() {
    if !needs_root("a_prune_takes_what_nobody_has") {
        return;
    }
    let kiln = Kiln::busybox();
    for (label, name) in [("keep=1", "one"), ("tier=db", "two"), ("tier=web", "three")] {
        kiln.ok(&["volume", "create", "--label", label, name]);
    }
    kiln.ok(&["create", "--name", "box", "-v", "used:/x", "-v", "/y", "busybox", "true"]);
    let lost = kiln.ok(&["volume", "create"]);
    let asked = kiln.run_with(&["volume", "prune"], b"n\n").ok();
    assert!(asked.error.contains("all anonymous volumes"), "{asked}");
    assert_eq!(names(&kiln, &["dangling=true"]).split(' ').count(), 4);
    kiln.ok(&["volume", "prune", "-a", "-f", "--filter", "label=tier=db"]);
    assert!(!names(&kiln, &[]).contains("two"));
    kiln.ok(&["volume", "prune", "-a", "-f", "--filter", "label!=keep"]);
    assert_eq!(names(&kiln, &["dangling=true"]), "one");
    assert!(!names(&kiln, &[]).contains(lost.trim()));
    kiln.ok(&["volume", "prune", "-f", "--filter", "all=1"]);
    assert_eq!(names(&kiln, &["dangling=true"]), "");
    let report = kiln.ok(&["system", "prune", "-f", "--volumes"]);
    assert!(report.contains("Deleted Containers:") && report.contains("Deleted Volumes:"), "{report}");
    assert_eq!(names(&kiln, &[]), "used");
}

#[test]
fn events_tell_of_volumes() {
    if !needs_root("events_tell_of_volumes") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["volume", "create", "data"]);
    run(&kiln, &["--rm", "-v", "data:/x:ro", "busybox", "true"]).ok();
    kiln.settle();
    kiln.ok(&["volume", "rename", "data", "new"]);
    kiln.ok(&["volume", "rm", "new"]);
    let format = "{{.Action}} {{.Actor.ID}}";
    let told =
        kiln.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=volume", "--format", format]);
    let expected = "create data\nmount data\nunmount data\nrename new\ndestroy new\n";
    assert_eq!(told, expected);
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "volume=data", "--format", format];
    assert!(kiln.ok(&words).starts_with("create data\nmount data\n"));
}

#[test]
fn volumes_of_the_image_are_anonymous_and_filled() {
    if !needs_root("volumes_of_the_image_are_anonymous_and_filled") {
        return;
    }
    let kiln = Kiln::busybox();
    let file = "FROM busybox\nRUN mkdir /volume01 && echo image > /volume01/file && chown 7:8 /volume01\n\
                VOLUME [\"volume01\",\"volume02\"]\n";
    let context = kiln.context(&[("Dockerfile", file)]);
    kiln.build(&context, &["-t", "two", "--network", "none"]).ok();
    let script =
        "cat /volume01/file; stat -c %u:%g /volume01; echo mine > /volume02/file; cat /volume02/file";
    let ran = run(&kiln, &["--name", "box", "two", "sh", "-c", script]).ok();
    assert_eq!(ran.out, "image\n7:8\nmine\n");
    let shown = inspected(&kiln, &["inspect", "box"]);
    let mounts = shown["Mounts"].as_array().unwrap();
    let targets: Vec<_> = mounts.iter().map(|mount| mount["Destination"].as_str().unwrap()).collect();
    assert_eq!(targets, ["/volume01", "/volume02"]);
    for mount in mounts {
        assert_eq!(mount["Name"].as_str().unwrap().len(), 64);
        assert_eq!(mount["Type"], "volume");
    }
    kiln.ok(&["rm", "-v", "box"]);
    assert_eq!(names(&kiln, &[]), "");
}
