//! `--volumes-from`: containers that share what one of them has mounted.

use crate::support::binary::{Kiln, Ran};
use crate::support::needs_root;

fn create(kiln: &Kiln, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["create", "--network", "none"].iter().chain(words).copied().collect();
    kiln.run(&words)
}

fn run(kiln: &Kiln, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["run", "--network", "none"].iter().chain(words).copied().collect();
    kiln.run(&words)
}

fn volumes(kiln: &Kiln) -> usize {
    kiln.ok(&["volume", "ls", "-q"]).lines().count()
}

#[test]
fn a_chain_shares_its_data_whoever_goes_first() {
    if !needs_root("a_chain_shares_its_data_whoever_goes_first") {
        return;
    }
    let kiln = Kiln::busybox();
    create(&kiln, &["--name", "one", "-v", "/shared", "busybox", "true"]).ok();
    run(&kiln, &["--name", "two", "--volumes-from", "one", "busybox", "sh", "-c", "echo two > /shared/f"])
        .ok();
    let third = [
        "--name",
        "three",
        "--volumes-from",
        "two",
        "busybox",
        "sh",
        "-c",
        "cat /shared/f; echo 3 >> /shared/f",
    ];
    assert_eq!(run(&kiln, &third).ok().out, "two\n");
    kiln.ok(&["rm", "-v", "one"]);
    kiln.ok(&["rm", "-f", "-v", "two"]);
    assert_eq!(volumes(&kiln), 1, "the third one has it");
    assert_eq!(kiln.ok(&["start", "-a", "three"]), "two\n3\n");
    kiln.ok(&["rm", "-v", "three"]);
    assert_eq!(volumes(&kiln), 0, "it was the last");
}

#[test]
fn the_end_of_a_container_with_rm_leaves_what_others_have() {
    if !needs_root("the_end_of_a_container_with_rm_leaves_what_others_have") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = ["-d", "--rm", "--name", "source", "-v", "/shared", "busybox", "sleep", "1000"];
    run(&kiln, &source).ok();
    create(&kiln, &["--rm", "--name", "user", "--volumes-from", "source", "busybox", "cat", "/shared/f"])
        .ok();
    kiln.ok(&["exec", "source", "sh", "-c", "echo kept > /shared/f"]);
    kiln.ok(&["rm", "-f", "source"]);
    kiln.settle();
    assert_eq!(volumes(&kiln), 1);
    assert_eq!(kiln.ok(&["start", "-a", "user"]), "kept\n");
    kiln.settle();
    assert_eq!(volumes(&kiln), 0);
}

#[test]
fn modes_places_and_order_are_dockers() {
    if !needs_root("modes_places_and_order_are_dockers") {
        return;
    }
    let kiln = Kiln::busybox();
    create(&kiln, &["--name", "aa", "-v", "one:/x", "-v", "two:/y:ro", "busybox", "true"]).ok();
    create(&kiln, &["--name", "bb", "-v", "three:/x", "busybox", "true"]).ok();
    let volumes_of = |name: &str| {
        let format = "{{range .Mounts}}{{.Name}}:{{.Destination}}:{{.RW}} {{end}}";
        kiln.ok(&["inspect", "-f", format, name]).trim().to_owned()
    };
    for (name, flags, expected) in [
        ("c1", &["--volumes-from", "aa"][..], "one:/x:true two:/y:false"),
        ("c2", &["--volumes-from", "aa:ro"], "one:/x:false two:/y:false"),
        ("c3", &["--volumes-from", "aa:rw"], "one:/x:true two:/y:false"),
        ("c4", &["--volumes-from", "aa", "--volumes-from", "bb"], "two:/y:false three:/x:true"),
        ("c5", &["--volumes-from", "aa", "-v", "own:/x"], "own:/x:true two:/y:false"),
    ] {
        create(&kiln, &[&["--name", name], flags, &["busybox", "true"]].concat()).ok();
        assert_eq!(volumes_of(name), expected, "{flags:?}");
    }
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.HostConfig.VolumesFrom}}", "c2"]), "[aa:ro]\n");
    let refused = run(&kiln, &["--rm", "--volumes-from", "aa:ro", "busybox", "touch", "/x/new"]);
    assert!(refused.code == 1 && refused.error.contains("Read-only file system"), "{refused}");
    create(&kiln, &["--volumes-from", "nobody", "busybox", "true"]).refused_with(&["nobody"]);
    create(&kiln, &["--volumes-from", "aa:rx", "busybox", "true"]).refused_with(&["invalid mode `rx`"]);
    let short = kiln.ok(&["inspect", "-f", "{{.Id}}", "aa"])[..12].to_owned();
    create(&kiln, &["--name", "dd", "--volumes-from", &short, "busybox", "true"]).ok();
    assert_eq!(volumes_of("dd"), "one:/x:true two:/y:false");
}

#[test]
fn many_at_once_keep_what_they_share_and_leave_nothing() {
    if !needs_root("many_at_once_keep_what_they_share_and_leave_nothing") {
        return;
    }
    let kiln = Kiln::busybox();
    let container_rounds = &|worker: usize| {
        for round in 0..5 {
            let (one, two) = (format!("one-{worker}-{round}"), format!("two-{worker}-{round}"));
            let named = format!("named-{worker}:/n");
            run(&kiln, &["--rm", "-v", "/x", "-v", "all:/s", "busybox", "true"]).ok();
            let script = "echo kept > /x/f";
            run(&kiln, &["--name", &one, "-v", "/x", "-v", &named, "busybox", "sh", "-c", script]).ok();
            create(&kiln, &["--name", &two, "--volumes-from", &one, "busybox", "cat", "/x/f"]).ok();
            kiln.ok(&["rm", "-v", &one]);
            assert_eq!(kiln.ok(&["start", "-a", &two]), "kept\n");
            kiln.ok(&["rm", "-v", &two]);
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || container_rounds(worker));
        }
        scope.spawn(|| {
            for _ in 0..5 {
                kiln.ok(&["volume", "prune", "-f"]);
                kiln.ok(&["volume", "create", "own"]);
                kiln.ok(&["volume", "clone", "own", "copy"]);
                kiln.ok(&["volume", "rm", "own", "copy"]);
            }
        });
    });
    assert_eq!(kiln.ok(&["volume", "ls", "-q"]), "all\nnamed-0\nnamed-1\nnamed-2\n");
    for folder in [".new", ".removed"] {
        let left = std::fs::read_dir(kiln.root().join("volumes").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}
