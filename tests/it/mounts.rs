//! `-v`, `--mount` and `--tmpfs`: every word and key, on real containers.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::binary::{Kiln, Ran};
use crate::support::needs_root;

/// Runs a container without a network to its end.
fn run(kiln: &Kiln, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["run", "--rm", "--network", "none"].iter().chain(words).copied().collect();
    kiln.run(&words)
}

/// The same with one flag and a line for the shell.
fn sh(kiln: &Kiln, flag: [&str; 2], script: &str) -> Ran {
    run(kiln, &[flag[0], flag[1], "busybox", "sh", "-c", script])
}

/// A folder of the host with a file in it.
fn source(kiln: &Kiln) -> std::path::PathBuf {
    let source = kiln.scratch().join("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "host\n").unwrap();
    std::fs::write(source.join("sub/inner"), "inner\n").unwrap();
    source
}

/// A filesystem in memory of the host, gone at the end of the test.
struct Memory<'a>(&'a Path);

impl<'a> Memory<'a> {
    fn at(path: &'a Path, shared: bool) -> Self {
        std::fs::create_dir_all(path).unwrap();
        assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(path).status().unwrap().success());
        let memory = Self(path);
        let how = if shared { "--make-shared" } else { "--make-private" };
        assert!(Command::new("mount").arg(how).arg(path).status().unwrap().success());
        memory
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0).status();
    }
}

#[test]
fn the_short_form_has_all_its_words() {
    if !needs_root("the_short_form_has_all_its_words") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = source(&kiln);
    let source = source.to_str().unwrap();
    let bind = |rest: &str| format!("{source}:{rest}");
    assert_eq!(sh(&kiln, ["-v", &bind("/x")], "cat /x/file; echo new > /x/new").ok().out, "host\n");
    assert_eq!(std::fs::read_to_string(format!("{source}/new")).unwrap(), "new\n");
    for words in ["ro", "ro,rprivate", "z,ro", "ro,cached"] {
        let ran = sh(&kiln, ["-v", &bind(&format!("/x:{words}"))], "echo > /x/file");
        assert!(ran.code == 1 && ran.error.contains("Read-only file system"), "{words}: {ran}");
    }
    let noted = sh(&kiln, ["-v", &bind("/x:Z")], "cat /x/file").ok();
    assert!(noted.error.contains("SELinux labels of mounts are not set"), "{noted}");
    assert_eq!(sh(&kiln, ["-v", &bind("/x:rw")], "echo > /x/file").code, 0);
    let missing = format!("{source}/made/here");
    sh(&kiln, ["-v", &format!("{missing}:/x")], "test -d /x").ok();
    assert!(Path::new(&missing).is_dir(), "`-v` makes the folder");
    let copied = sh(&kiln, ["-v", "one:/etc"], "grep -c user /etc/passwd");
    let bare = sh(&kiln, ["-v", "two:/etc:nocopy"], "test -e /etc/passwd || echo bare");
    assert_eq!((copied.out.as_str(), bare.ok().out.as_str()), ("1\n", "bare\n"));
    for (text, expected) in [
        ("a/b:/x", "`./a/b`"),
        ("/a:/b:rx", "unknown option `rx`"),
        ("/a:b", "must be absolute"),
        ("/a:/b:c:d", "too many colons"),
        ("name:/b:rshared", "propagation is for host paths"),
    ] {
        sh(&kiln, ["-v", text], "true").refused_with(&[expected]);
    }
    for text in ["", ":/x", "name:", "name:/"] {
        sh(&kiln, ["-v", text], "true").refused_with(&[&format!("invalid volume `{text}`"), "`name:/path`"]);
    }
    run(&kiln, &["-v", "/x", "--tmpfs", "/x", "busybox", "true"])
        .refused_with(&["duplicate mount point: /x"]);
    run(&kiln, &["-v", "/x", "--mount", "dst=/x/", "busybox", "true"])
        .refused_with(&["duplicate mount point"]);
}

#[test]
fn the_long_form_has_all_its_types() {
    if !needs_root("the_long_form_has_all_its_types") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = source(&kiln);
    let source = source.to_str().unwrap();
    let mount = |text: &str, script: &str| sh(&kiln, ["--mount", text], script);
    let bind = format!("type=bind,src={source},dst=/x");
    assert_eq!(mount(&bind, "cat /x/file").ok().out, "host\n");
    assert_eq!(mount(&format!("{bind},readonly"), "echo > /x/file").code, 1);
    assert_eq!(mount(&format!("type=bind,src={source}/file,dst=/f"), "cat /f").ok().out, "host\n");
    let missing = format!("{source}/missing");
    let text = format!("type=bind,src={missing},dst=/x");
    mount(&text, "true").refused_with(&["the bind source", &missing, "o such file", "make it first"]);
    assert!(!Path::new(&missing).exists());
    mount(&format!("{text},bind-create-src"), "test -d /x").ok();
    let made = "src=data,dst=/etc,volume-label=tier=db,volume-nocopy";
    assert_eq!(
        mount(made, "test -e /etc/passwd; echo $?; mkdir -p /etc/a/b; echo deep > /etc/a/b/file").ok().out,
        "1\n"
    );
    assert_eq!(kiln.ok(&["volume", "inspect", "-f", "{{.Labels.tier}}", "data"]), "db\n");
    let part = "src=data,dst=/x,volume-subpath=a/b,ro";
    assert_eq!(mount(part, "cat /x/file; echo > /x/file").out, "deep\n");
    mount("src=data,dst=/x,volume-subpath=a/missing", "true").refused_with(&["a/missing", "o such file"]);
    assert_eq!(mount("type=volume,dst=/etc", "grep -c user /etc/passwd").ok().out, "1\n");
    let memory = "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1750";
    let script =
        "stat -c %a /x; stat -f -c %b*%S /x; dd if=/dev/zero of=/x/f bs=1M count=2 2>&1 | grep -c space";
    assert_eq!(mount(memory, script).out, "1750\n256*4096\n1\n");
    for (text, expected) in [
        ("type=bind,src=/srv,dst=/x,raedonly", "did you mean `readonly`?"),
        ("type=bind,src=/srv,dst=/x,tmpfs-size=1m", "is for mounts of type `tmpfs`"),
        ("type=bind,src=srv,dst=/x", "`./srv`"),
        ("type=cluster,dst=/x", "bind, volume, tmpfs, image"),
        ("src=data,dst=/x,volume-driver=nfs", "no volume driver `nfs`"),
        ("type=bind,src=/srv", "no target"),
        ("src=data,dst=/proc/x", "inside `/proc` or `/sys`"),
    ] {
        mount(text, "true").refused_with(&[expected]);
    }
}

#[test]
fn the_files_of_an_image_are_mounted() {
    if !needs_root("the_files_of_an_image_are_mounted") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM scratch\nCOPY a /conf/a\n"), ("a", "in the image\n")]);
    kiln.build(&context, &["-t", "conf"]).ok();
    let mount = |text: &str, script: &str| sh(&kiln, ["--mount", text], script);
    assert_eq!(mount("type=image,src=conf,dst=/x", "cat /x/conf/a").ok().out, "in the image\n");
    assert_eq!(mount("type=image,src=conf,dst=/x,image-subpath=conf", "cat /x/a").ok().out, "in the image\n");
    assert_eq!(mount("type=image,src=conf,dst=/f,image-subpath=conf/a", "cat /f").ok().out, "in the image\n");
    assert_eq!(mount("type=image,src=conf,dst=/x", "echo > /x/new").code, 1, "it can't be written to");
    mount("type=image,src=conf,dst=/x,image-subpath=none", "true").refused_with(&["`none` of image `conf`"]);
    // Its layers stay while a container has them.
    let flag = "type=image,src=conf,dst=/x";
    kiln.ok(&[
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "--mount",
        flag,
        "busybox",
        "cat",
        "/x/conf/a",
    ]);
    kiln.ok(&["rmi", "-f", "conf"]);
    kiln.ok(&["prune", "-f", "--filter", "label=none"]);
    assert_eq!(kiln.ok(&["start", "-a", "box"]), "in the image\n");
    let shown: Value = serde_json::from_str(&kiln.ok(&["inspect", "box"])).unwrap();
    let expected = serde_json::json!({
        "Type": "image", "Source": "conf", "Destination": "/x", "Mode": "ro", "RW": false, "Propagation": "",
    });
    assert_eq!(shown[0]["Mounts"][0], expected);
}

#[test]
fn mounts_below_a_bind_follow_its_recursion() {
    if !needs_root("mounts_below_a_bind_follow_its_recursion") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = source(&kiln);
    let below = source.join("sub");
    let _memory = Memory::at(&below, false);
    std::fs::write(below.join("mounted"), "x").unwrap();
    let bind = format!("type=bind,src={},dst=/x", source.display());
    for (words, there, above, under) in [
        ("", true, true, true),
        ("ro", true, false, false),
        ("ro,bind-recursive=readonly", true, false, false),
        ("ro,bind-recursive=writable", true, false, true),
        ("bind-recursive=disabled", false, true, true),
        ("bind-nonrecursive,ro", false, false, false),
    ] {
        let text = if words.is_empty() { bind.clone() } else { format!("{bind},{words}") };
        let script = "test -e /x/sub/mounted; echo $?; touch /x/new 2>/dev/null; echo $?; touch /x/sub/new 2>/dev/null; echo $?";
        let ran = sh(&kiln, ["--mount", &text], script).ok();
        let told: Vec<bool> = ran.out.lines().map(|code| code == "0").collect();
        assert_eq!(told, [there, above, under], "{words}");
    }
    let short = sh(&kiln, ["-v", &format!("{}:/x:ro", source.display())], "touch /x/sub/new");
    assert!(short.error.contains("Read-only file system"), "{short}");
}

#[test]
fn mounts_of_later_show_where_they_are_to() {
    if !needs_root("mounts_of_later_show_where_they_are_to") {
        return;
    }
    let kiln = Kiln::busybox();
    let (shared, alone) = (kiln.scratch().join("shared"), kiln.scratch().join("alone"));
    let _shared = Memory::at(&shared, true);
    let _alone = Memory::at(&alone, false);
    std::fs::create_dir(shared.join("later")).unwrap();
    for word in ["rslave", "rshared", "slave", "shared"] {
        let bind = format!("{}:/x:{word}", alone.display());
        let refused = sh(&kiln, ["-v", &bind], "true").refused_with(&["which is not a shared mount"]);
        assert!(refused.error.contains("--make-shared"), "{refused}");
    }
    for (word, there) in [("rprivate", "1\n"), ("rslave", "0\n"), ("rshared", "0\n")] {
        let bind = format!("{}:/x:{word}", shared.display());
        let words =
            ["run", "-d", "--name", word, "--network", "none", "-v", &bind, "busybox", "sleep", "1000"];
        kiln.ok(&words);
        let later = shared.join("later");
        let memory = Memory::at(&later, false);
        std::fs::write(later.join("file"), "").unwrap();
        let seen = kiln.ok(&["exec", word, "sh", "-c", "test -e /x/later/file; echo $?"]);
        assert_eq!(seen, there, "{word}");
        let shown = kiln.ok(&["inspect", "-f", "{{(index .Mounts 0).Propagation}}", word]);
        assert_eq!(shown.trim(), word);
        drop(memory);
        kiln.ok(&["rm", "-f", word]);
    }
    // The other way round.
    let bind = format!("{}:/x:rshared", shared.display());
    let script = "busybox mount -t tmpfs tmpfs /x/later && touch /x/later/inside && sleep 1000";
    let words = [
        "run",
        "-d",
        "--name",
        "out",
        "--network",
        "none",
        "--privileged",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        script,
    ];
    kiln.ok(&words);
    let later = shared.join("later");
    crate::support::binary::gone("the mount of the container", || {
        if later.join("inside").exists() { Vec::new() } else { vec!["not yet".to_owned()] }
    });
    kiln.ok(&["rm", "-f", "out"]);
    let _ = Command::new("umount").arg(&later).status();
}

#[test]
fn inspect_tells_of_every_mount() {
    if !needs_root("inspect_tells_of_every_mount") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = source(&kiln);
    let bind = format!("{}:/a:ro", source.display());
    let words = ["create", "--name", "box", "-v", &bind, "-v", "data:/b", "--mount", "type=tmpfs,dst=/c"];
    kiln.ok(&[&words[..], &["--tmpfs", "/d:ro", "busybox", "true"]].concat());
    let shown: Value = serde_json::from_str(&kiln.ok(&["inspect", "box"])).unwrap();
    let kinds: Vec<String> = (shown[0]["Mounts"].as_array().unwrap().iter())
        .map(|mount| {
            format!(
                "{} {} {}",
                mount["Type"].as_str().unwrap(),
                mount["Destination"].as_str().unwrap(),
                mount["RW"]
            )
        })
        .collect();
    assert_eq!(kinds, ["bind /a false", "volume /b true", "tmpfs /d false", "tmpfs /c true"]);
    assert_eq!(shown[0]["HostConfig"]["Binds"], serde_json::json!([bind, "data:/b"]));
    assert_eq!(kiln.ok(&["ps", "-aq", "--filter", "volume=data"]).lines().count(), 1);
    assert_eq!(kiln.ok(&["ps", "-aq", "--filter", "volume=/b"]).lines().count(), 1);
}

/// What docker 20.10.24 says of the same words.
#[test]
fn mounts_of_the_long_form_are_shown_as_they_were_asked_for() {
    if !needs_root("mounts_of_the_long_form_are_shown_as_they_were_asked_for") {
        return;
    }
    let kiln = Kiln::busybox();
    let source = kiln.scratch().join("source");
    std::fs::create_dir(&source).unwrap();
    let source = source.to_str().unwrap();
    let long = [
        &format!("type=bind,src={source},dst=/b,ro,bind-propagation=rslave"),
        &format!("type=bind,src={source},dst=/b2"),
        "type=volume,src=vv,dst=/v,volume-nocopy,volume-label=a=1,volume-label=b",
        "src=ww,dst=/w,readonly,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs",
        "dst=/anon",
        "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
        "type=tmpfs,dst=/t2",
    ];
    let long: Vec<&str> = long.iter().flat_map(|text| ["--mount", *text]).collect();
    let short = ["-v", "xx:/x", "--tmpfs", "/tt:size=2m", "-v", "/anon2", "busybox", "true"];
    kiln.ok(&[&["create", "--name", "box"], &long[..], &short].concat());
    let shown: Value = serde_json::from_str(&kiln.ok(&["inspect", "box"])).unwrap();
    let host = &shown[0]["HostConfig"];
    let expected = serde_json::json!([
        { "Type": "bind", "Source": source, "Target": "/b", "ReadOnly": true,
          "BindOptions": { "Propagation": "rslave" } },
        { "Type": "bind", "Source": source, "Target": "/b2" },
        { "Type": "volume", "Source": "vv", "Target": "/v",
          "VolumeOptions": { "NoCopy": true, "Labels": { "a": "1", "b": "" } } },
        { "Type": "volume", "Source": "ww", "Target": "/w", "ReadOnly": true, "VolumeOptions":
          { "DriverConfig": { "Name": "local", "Options": { "device": "tmpfs", "type": "tmpfs" } } } },
        { "Type": "volume", "Target": "/anon" },
        { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1_048_576, "Mode": 0o1770 } },
        { "Type": "tmpfs", "Target": "/t2" },
    ]);
    assert_eq!(host["Mounts"], expected);
    assert_eq!(host["Binds"], serde_json::json!(["xx:/x"]));
    assert_eq!(host["Tmpfs"], serde_json::json!({ "/tt": "size=2m" }));
    assert_eq!(shown[0]["Config"]["Volumes"], serde_json::json!({ "/anon2": {} }));
    kiln.ok(&["create", "--name", "plain", "busybox", "true"]);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{json .HostConfig.Mounts}}", "plain"]), "null\n");
}

#[test]
fn mounts_have_the_names_that_df_shows() {
    if !needs_root("mounts_have_the_names_that_df_shows") {
        return;
    }
    let kiln = Kiln::busybox();
    let mounts = sh(&kiln, ["--tmpfs", "/memory"], "cat /proc/mounts").ok().out;
    let named = [
        "overlay / overlay",
        "proc /proc proc",
        "sysfs /sys sysfs",
        "tmpfs /dev tmpfs",
        "tmpfs /memory tmpfs",
    ];
    let named = named.into_iter().chain([
        "shm /dev/shm tmpfs",
        "mqueue /dev/mqueue mqueue",
        "devpts /dev/pts devpts",
    ]);
    for line in named {
        assert!(mounts.lines().any(|mount| mount.starts_with(&format!("{line} "))), "`{line}` in:\n{mounts}");
    }
}

#[test]
fn volumes_that_were_asked_for_without_a_source_are_in_the_configuration() {
    if !needs_root("volumes_that_were_asked_for_without_a_source_are_in_the_configuration") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nVOLUME /image\n")]);
    kiln.build(&context, &["-t", "declared"]).ok();
    kiln.ok(&["create", "--name", "box", "-v", "/data", "-v", "named:/named", "declared", "true"]);
    let declared = kiln.ok(&["inspect", "-f", "{{json .Config.Volumes}}", "box"]);
    assert_eq!(declared, "{\"/data\":{},\"/image\":{}}\n");
}

#[test]
fn mounts_that_cannot_be_are_named_with_a_way_out() {
    if !needs_root("mounts_that_cannot_be_are_named_with_a_way_out") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["volume", "create", "data"]);
    for (options, told) in [
        (&["--mount", "src=data,dst=/x,volume-subpath=missing"][..], "cannot mount `missing` of `"),
        (&["-v", "data:/x", "-v", "/tmp:/x/"], "duplicate mount point: /x"),
        (&["-v", "data:/x:ro,rw"], "`ro` and `rw` at once"),
        (&["--tmpfs", "/x:foo"], "the option `foo` is not supported"),
        (&["--tmpfs", "/x:mode=9"], "`9` is no mode"),
        (&["--tmpfs", "x"], "it must be an absolute path below /"),
        (&["--mount", ""], "empty field"),
        (&["--mount", "type=bind,src=,dst=/x"], "`src` needs a value"),
        (&["--mount", "type=bind,src=/tmp,dst=x"], "must be absolute"),
        (&["--mount", "type=tmpfs,dst=/x,volume-nocopy"], "is for mounts of type `volume`"),
        (&["--mount", "type=image,src=busybox,dst=/x,image-subpath=none"], "cannot mount `none` of image"),
        (&["--mount", "src=data,dst=/x,volume-driver=nfs"], "no volume driver `nfs`"),
        (&["--mount", "src=new,dst=/x,volume-opt=colour=red"], "unknown option `colour` of a volume"),
        (&["--volumes-from", ""], "names no container"),
    ] {
        let ran = kiln.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat());
        assert_eq!(ran.code, 125, "{options:?}: {ran}");
        assert!(ran.error.contains(told) && ran.error.contains("hint: "), "{options:?}: {ran}");
    }
    let archive = kiln.scratch().join("no.tar");
    std::fs::write(&archive, "x".repeat(1024)).unwrap();
    kiln.run(&["volume", "import", "data", archive.to_str().unwrap()])
        .fails_with(&["cannot import into volume `data`", "hint: "]);
}
