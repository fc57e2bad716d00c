//! `kiln cache du|ls|prune`, and the bounds that are kept after builds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::binary::{Kiln, Step, finish, names, read, run, start};
use crate::support::needs_root;

/// A stage that only its own records keep, with 3 MB and a cache mount, below an image of a few bytes.
const STAGES: &str = "FROM busybox AS big\nARG N=1\nRUN --mount=type=cache,target=/c,id=tool \
    head -c 1000000 /dev/zero > /c/x; echo $N > /n\nRUN head -c 3000000 /dev/zero > /big\n\
    FROM busybox\nCOPY --from=big /n /n\n";

/// What `cache ls` tells, by description.
fn listed(kiln: &Kiln, words: &[&str]) -> BTreeMap<String, Value> {
    let out = kiln.ok(&[&["cache", "ls", "--format", "json"], words].concat());
    let rows = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (row["Description"].as_str().unwrap().to_owned(), row)).collect()
}

fn descriptions(kiln: &Kiln, filters: &[&str]) -> Vec<String> {
    let words: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
    listed(kiln, &words).into_keys().collect()
}

/// What lies on the disk below a folder.
fn du(folder: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    let of_each = entries.map(|entry| entry.metadata().unwrap());
    of_each.filter(|of| seen.insert(of.ino())).map(|of| of.blocks() * 512).sum()
}

fn built() -> (Kiln, std::path::PathBuf) {
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", STAGES)]);
    kiln.build(&context, &["-t", "app"]).ok();
    (kiln, context)
}

#[test]
fn a_listing_tells_kinds_sizes_and_who_needs_what() {
    if !needs_root("a_listing_tells_kinds_sizes_and_who_needs_what") {
        return;
    }
    let (kiln, _) = built();
    let all = listed(&kiln, &[]);
    let big = all.iter().find(|(name, _)| name.contains("/big")).unwrap().1;
    assert_eq!(
        (&big["Type"], &big["Shared"], &big["InUse"]),
        (&"regular".into(), &false.into(), &false.into())
    );
    assert!(big["Size"].as_str().unwrap().starts_with("3.0"), "{big}");
    let parent = big["Parents"][0].as_str().unwrap();
    let mount = &all["cache mount tool"];
    assert_eq!((&mount["Type"], &mount["Mutable"]), (&"exec.cachemount".into(), &true.into()));
    let copied = all.iter().find(|(name, _)| name.contains("COPY --from=big")).unwrap().1;
    assert_eq!((&copied["Shared"], &copied["Reclaimable"]), (&true.into(), &false.into()));
    let by_id = listed(&kiln, &["--filter", &format!("id={}", &parent[..12])]);
    assert!(by_id.keys().next().unwrap().contains("head -c 1000000"), "{by_id:?}");
    let table = kiln.ok(&["buildx", "du"]);
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split("  ").filter(|word| !word.is_empty()).collect();
    assert_eq!(
        header.iter().map(|word| word.trim()).collect::<Vec<_>>(),
        ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]
    );
    for word in ["Shared:", "Private:", "Reclaimable:", "Total:"] {
        assert!(table.contains(word), "{table}");
    }
    let blocks = kiln.ok(&["builder", "du", "--verbose", "--filter", "type==exec.cachemount"]);
    for line in
        ["Mutable:", "Description:   cache mount tool", "Usage count:   1", "Type:          exec.cachemount"]
    {
        assert!(blocks.contains(line), "`{line}` is missing in\n{blocks}");
    }
    assert_eq!(kiln.ok(&["cache", "ls", "-q"]).lines().count(), all.len());
}

#[test]
fn filters_choose_what_fits_all_of_them() {
    if !needs_root("filters_choose_what_fits_all_of_them") {
        return;
    }
    let (kiln, _) = built();
    assert_eq!(descriptions(&kiln, &["type==exec.cachemount"]), ["cache mount tool"]);
    assert_eq!(descriptions(&kiln, &["mutable"]), ["cache mount tool"]);
    assert_eq!(descriptions(&kiln, &["private", "type=regular"]).len(), 2);
    assert_eq!(descriptions(&kiln, &["description~=3000000", "private"]).len(), 1);
    assert_eq!(descriptions(&kiln, &["description~=3000000", "shared"]), Vec::<String>::new());
    assert_eq!(descriptions(&kiln, &["until=1h"]), Vec::<String>::new());
    assert_eq!(descriptions(&kiln, &["unused-for=0s", "inuse=false"]), descriptions(&kiln, &[]));
    let parent = listed(&kiln, &["--filter", "description~=1000000"]).into_values().next().unwrap();
    let parents = format!("parents={}", parent["ID"].as_str().unwrap());
    assert!(descriptions(&kiln, &[&parents]).concat().contains("3000000"));
    let refused = kiln.run(&["cache", "du", "--filter", "unusedfor=1h"]);
    assert_eq!(refused.code, 125.min(refused.code.max(1)), "{refused}");
    assert!(
        refused.error.contains("unknown filter `unusedfor`") && refused.error.contains("unused-for"),
        "{refused}"
    );
    // Only what fits goes, and what stands on it.
    let pruned = kiln.ok(&["buildx", "prune", "-f", "--filter", "type==exec.cachemount"]);
    assert!(pruned.contains("Deleted cache mounts:\ntool\n"), "{pruned}");
    assert_eq!(descriptions(&kiln, &["private"]).len(), 2);
}

#[test]
fn a_dry_run_tells_what_a_prune_then_does_and_why() {
    if !needs_root("a_dry_run_tells_what_a_prune_then_does_and_why") {
        return;
    }
    let (kiln, context) = built();
    for (words, reason) in [
        (vec!["--filter", "description~=1000000"], "matches description~=1000000"),
        (vec!["--max-used-space", "2mb"], "over the quota: least recently used"),
        (vec![], "no image, build or container needs it"),
    ] {
        kiln.build(&context, &["--no-cache", "-t", "app"]).ok();
        let before = kiln.ok(&["cache", "ls", "-q"]);
        let told = kiln.ok(&[&["cache", "prune", "--dry-run"], &words[..]].concat());
        assert!(told.contains(reason), "{told}");
        assert_eq!(kiln.ok(&["cache", "ls", "-q"]), before, "nothing went");
        if reason.starts_with("matches") {
            assert!(told.contains("its parent goes"), "{told}");
        }
        kiln.ok(&[&["cache", "prune", "-f"], &words[..]].concat());
        let left = kiln.ok(&["cache", "ls", "-q"]);
        let went: Vec<&str> = before.lines().filter(|id| !left.contains(id)).collect();
        let mut planned: Vec<&str> = told
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .filter(|id| *id != "Would")
            .collect();
        planned.sort_unstable();
        let mut went = went;
        went.sort_unstable();
        assert_eq!(planned, went, "{told}");
    }
}

#[test]
fn a_prune_leaves_what_a_build_a_container_or_an_image_needs() {
    if !needs_root("a_prune_leaves_what_a_build_a_container_or_an_image_needs") {
        return;
    }
    let (kiln, _) = built();
    let container = kiln.ok(&["create", "--network", "none", "app", "cat", "/n"]);
    let slow = kiln.context(&[(
        "Dockerfile",
        "FROM busybox AS a\nRUN --mount=type=cache,target=/c,id=slow echo data > /data; echo x > /c/x; sleep 2; cat /c/x\n\
         RUN sleep 1; cat /data\nFROM busybox\nCOPY --from=a /data /data\n",
    )]);
    let build = start(&mut kiln.build_command(&slow, &["-t", "slow"]));
    while !names(&kiln.root().join("cache-mounts"))
        .iter()
        .any(|name| kiln.root().join("cache-mounts").join(name).join("fs/x").exists())
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let two = [0, 1].map(|_| start(&mut kiln.command(&["cache", "prune", "--all", "-f"])));
    for prune in two {
        finish(prune).ok();
    }
    let build = finish(build).ok();
    assert_eq!(build.ended(Step::Done).len(), 3, "{build}");
    assert_eq!(kiln.ok(&["run", "--rm", "--network", "none", "slow", "cat", "/data"]), "data\n");
    assert_eq!(kiln.ok(&["run", "--rm", "--network", "none", "app", "cat", "/n"]), "1\n");
    kiln.ok(&["rmi", "-f", "app"]);
    kiln.ok(&["cache", "prune", "--all", "-f"]);
    assert_eq!(kiln.ok(&["start", "-a", container.trim()]), "1\n");
    kiln.ok(&["rm", container.trim()]);
    assert_eq!(kiln.run(&["system", "check"]).code, 0);
}

#[test]
fn what_was_pruned_is_built_again_but_not_for_a_hit_above_it() {
    if !needs_root("what_was_pruned_is_built_again_but_not_for_a_hit_above_it") {
        return;
    }
    let (kiln, context) = built();
    kiln.ok(&["cache", "prune", "-f"]);
    assert_eq!(descriptions(&kiln, &["private"]), Vec::<String>::new());
    let again = kiln.build(&context, &["-t", "app"]).ok();
    assert_eq!(again.ended(Step::Done), Vec::<String>::new(), "the image's own steps are there: {again}");
    kiln.ok(&["cache", "prune", "-a", "-f"]);
    let again = kiln.build(&context, &["-t", "app"]).ok();
    assert!(!again.ended(Step::Done).is_empty() && again.error.contains("collected"), "{again}");
}

#[test]
fn a_killed_prune_is_completed_by_the_next() {
    if !needs_root("a_killed_prune_is_completed_by_the_next") {
        return;
    }
    let kiln = Kiln::busybox();
    let steps: String = (0..20).map(|step| format!("RUN head -c 200000 /dev/zero > /{step}\n")).collect();
    let context = kiln.context(&[(
        "Dockerfile",
        &format!("FROM busybox AS big\n{steps}FROM busybox\nCOPY --from=big /1 /1\n"),
    )]);
    for pause in [1, 3, 5, 8, 12, 20] {
        kiln.build(&context, &["--no-cache", "-t", "app"]).ok();
        let mut prune = start(&mut kiln.command(&["cache", "prune", "-f"]));
        std::thread::sleep(Duration::from_millis(pause));
        prune.kill().unwrap();
        prune.wait().unwrap();
        kiln.build(&context, &["-t", "app"]).ok();
        kiln.settle();
    }
    kiln.ok(&["image", "prune", "-f"]);
    kiln.ok(&["cache", "prune", "-f"]);
    assert_eq!(names(&kiln.root().join("trash")), Vec::<String>::new());
    assert_eq!(descriptions(&kiln, &["private"]), Vec::<String>::new());
    assert_eq!(names(&kiln.root().join("snapshots")).len(), 2, "busybox and the copied file");
    let checked = kiln.run(&["system", "check"]);
    assert_eq!(checked.code, 0, "{checked}");
}

#[test]
fn bounds_are_kept_after_builds() {
    if !needs_root("bounds_are_kept_after_builds") {
        return;
    }
    let kiln = Kiln::busybox();
    let busybox = du(&kiln.root().join("snapshots"));
    let context = kiln.context(&[("Dockerfile", STAGES)]);
    for number in 0..8 {
        let argument = format!("N={number}");
        let mut build = kiln.build_command(&context, &["--build-arg", &argument, "-t", "app"]);
        run(build.env("KILN_CACHE_MAX", "10m").env("KILN_CACHE_MIN_FREE", "0")).ok();
        kiln.settle();
        let used = du(&kiln.root().join("snapshots")) + du(&kiln.root().join("cache-mounts")) - busybox;
        assert!(used <= (10 << 20) + (10 << 20) / 20, "{used} after build {number}");
    }
    let latest = kiln.build(&context, &["--build-arg", "N=7"]).ok();
    assert_eq!(latest.ended(Step::Done), Vec::<String>::new(), "the latest stays");
    let refused = run(kiln.build_command(&context, &[]).env("KILN_CACHE_MAX", "plenty"));
    assert!(refused.code != 0 && refused.error.contains("KILN_CACHE_MAX"), "{refused}");
}

#[test]
fn a_time_to_live_and_a_filter_of_stages_let_steps_run_again() {
    if !needs_root("a_time_to_live_and_a_filter_of_stages_let_steps_run_again") {
        return;
    }
    let (kiln, context) = built();
    let ran = |words: &[&str]| kiln.build(&context, words).ok().ended(Step::Done).len();
    assert_eq!(ran(&["--cache-ttl", "1h"]), 0);
    assert_eq!(ran(&["--cache-ttl", "0"]), 3);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ran(&["--cache-ttl", "1s"]), 3);
    assert_eq!(ran(&["--cache-ttl", "1h"]), 0, "what ran again counts from then");
    assert!(ran(&["--no-cache-filter", "big"]) >= 2);
    assert_eq!(ran(&[]), 0);
    assert_eq!(ran(&["--no-cache-filter", "1"]), 1);
    let warned = kiln.build(&context, &["--no-cache-filter", "bog"]).ok();
    assert!(warned.error.contains("`bog`") && warned.error.contains("did you mean big?"), "{warned}");
    let refused = kiln.build(&context, &["--cache-ttl", "soon"]);
    assert!(refused.code != 0 && refused.error.contains("--cache-ttl"), "{refused}");
    let files = kiln.build_files(&context, &[]);
    assert_eq!(read(&files, "n"), "1\n");
    assert!(fs::exists(kiln.root().join("meta.db")).unwrap());
}

#[test]
fn what_layers_share_is_counted_once() {
    if !needs_root("what_layers_share_is_counted_once") {
        return;
    }
    let kiln = Kiln::busybox();
    let content = "x".repeat(300_000);
    let names: Vec<String> = (0..20).map(|number| format!("tree/{number}")).collect();
    let dockerfile = "FROM busybox AS big\nCOPY tree /tree\nFROM busybox\nCOPY --from=big /tree/0 /0\n";
    let mut files = vec![("Dockerfile", dockerfile)];
    files.extend(names.iter().map(|name| (name.as_str(), content.as_str())));
    let context = kiln.context(&files);
    kiln.build(&context, &["-t", "app"]).ok();
    for round in 0..4 {
        fs::write(context.join("tree/7"), format!("{round}{content}")).unwrap();
        kiln.build(&context, &["-t", "app"]).ok();
    }
    kiln.settle();
    let listed: u64 = kiln
        .ok(&["cache", "ls", "--filter", "private", "--format", "{{.Size}}"])
        .lines()
        .map(|size| match size.strip_suffix("kB").or(size.strip_suffix("MB")) {
            Some(number) => {
                (number.parse::<f64>().unwrap() * if size.ends_with("kB") { 1e3 } else { 1e6 }) as u64
            }
            None => 0,
        })
        .sum();
    // 6 MB once, and four times the file that changed: five layers without sharing would be 30 MB.
    assert!((6_000_000..8_500_000).contains(&listed), "{listed}");
}
