//! `kiln commit`, `mount` and `unmount`.

use serde_json::{Value, json};

use crate::support::kiln::Kiln;
use crate::support::needs_root;

const CONFIG: &str = r#"{"Entrypoint":["/bin/env"],"Cmd":["sh"],"Env":["PATH=/bin","A=image"],"Labels":{"of":"image"},
    "Volumes":{"/imgvol":{}},"ExposedPorts":{"80/tcp":{}},"OnBuild":["RUN x"],"WorkingDir":"/tmp","StopSignal":"SIGINT"}"#;

fn kiln(name: &str) -> Option<Kiln> {
    with_config(name, CONFIG)
}

fn with_config(name: &str, config: &str) -> Option<Kiln> {
    if !needs_root(name) {
        return None;
    }
    let kiln = Kiln::new();
    kiln.add_busybox(config).then_some(kiln)
}

fn inspect(kiln: &Kiln, image: &str) -> Value {
    let all: Value = serde_json::from_str(&kiln.ok(&["image", "inspect", image])).unwrap();
    all[0].clone()
}

#[test]
fn a_commit_keeps_files_and_configuration() {
    let Some(kiln) = kiln("a_commit_keeps_files_and_configuration") else { return };
    let script = "echo new > /new; chown 12:34 /new; chmod 4711 /new; ln /new /new2; rm /etc/group; \
                  rm -r /data; mkdir /data; echo v > /vol/v";
    kiln.ok(&[
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "/vol",
        "-e",
        "B=user",
        "-e",
        "A=user",
        "-l",
        "k=v",
        "-w",
        "/etc",
        "--health-cmd",
        "true",
        "--health-retries",
        "5",
        "-t",
        "--entrypoint",
        "/bin/sh",
        "busybox",
        "-c",
        script,
    ]);
    let id = kiln.ok(&["commit", "-a", "Ann <ann@example.org>", "-m", "why not", "box", "made:v1"]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let image = inspect(&kiln, "made:v1");
    assert_eq!(image["Id"], json!(id));
    assert_eq!(image["Author"], json!("Ann <ann@example.org>"));
    assert_eq!(image["Comment"], json!("why not"));
    let config = &image["Config"];
    assert_eq!(config["Entrypoint"], json!(["/bin/sh"]));
    assert_eq!(config["Cmd"], json!(["-c", script]));
    assert_eq!(config["Env"], json!(["PATH=/bin", "A=user", "B=user"]), "no HOSTNAME, no TERM");
    assert_eq!(config["Labels"], json!({"of": "image", "k": "v"}));
    assert_eq!(config["Volumes"], json!({"/imgvol": {}, "/vol": {}}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["WorkingDir"], json!("/etc"));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Retries"], json!(5));
    assert_eq!(config["StopSignal"], json!("SIGINT"));
    assert_eq!(config["OnBuild"], json!(["RUN x"]));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let history = kiln.ok(&["history", "--no-trunc", "made:v1"]);
    let first = history.lines().nth(1).unwrap();
    assert!(first.contains("/bin/sh -c echo new") && first.ends_with("why not"), "{history}");
    let look = "stat -c '%a %u:%g %h' /new; cat /new2; ls /data /vol; test -e /etc/group || echo gone";
    let seen = kiln.ok(&["run", "--rm", "--network", "none", "made:v1", "-c", look]);
    assert_eq!(seen.replace("\r", ""), "4711 12:34 2\nnew\n/data:\n\n/vol:\ngone");
}

#[test]
fn changes_are_applied_and_an_unchanged_container_makes_no_layer() {
    // A volume would be mounted on a folder that the container makes.
    let config = CONFIG.replace(r#""Volumes":{"/imgvol":{}},"#, "");
    let name = "changes_are_applied_and_an_unchanged_container_makes_no_layer";
    let Some(kiln) = with_config(name, &config) else { return };
    kiln.ok(&["run", "--name", "box", "--network", "none", "--entrypoint", "", "busybox", "true"]);
    let changes =
        ["CMD [\"x\"]", "ENTRYPOINT [\"y\"]", "ENV N=1 M=$N", "EXPOSE 99", "LABEL a=b", "USER user"];
    let words: Vec<&str> = changes.iter().flat_map(|change| ["-c", change]).collect();
    let id = kiln.ok(&[&["commit", "--no-pause"], words.as_slice(), &["box"]].concat());
    let image = inspect(&kiln, &id);
    assert_eq!(image["RepoTags"], json!([]));
    assert_eq!(image["Config"]["Cmd"], json!(["x"]));
    assert_eq!(image["Config"]["Entrypoint"], json!(["y"]));
    assert_eq!(image["Config"]["Env"], json!(["PATH=/bin", "A=image", "N=1", "M="]));
    assert_eq!(image["Config"]["ExposedPorts"], json!({"80/tcp": {}, "99/tcp": {}}));
    assert_eq!(image["Config"]["User"], json!("user"));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    for bad in [&["commit", "-c", "RUN true", "box"][..], &["commit", "nobody"], &["commit", "box", "UPPER"]]
    {
        assert_eq!(kiln.run(bad).status.code(), Some(1), "{bad:?}");
    }
}

#[test]
fn a_running_container_is_committed_while_it_writes() {
    let Some(kiln) = kiln("a_running_container_is_committed_while_it_writes") else { return };
    let script =
        "echo kept > /kept; while :; do mkdir -p /d/e; echo x > /d/e/f; ln -f /d/e/f /d/g; rm -r /d; done";
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--entrypoint",
        "sh",
        "busybox",
        "-c",
        script,
    ]);
    kiln.ok(&["exec", "box", "sh", "-c", "until [ -e /kept ]; do sleep 0.02; done"]);
    for round in 0..15 {
        let name = format!("round:{round}");
        kiln.ok(&["commit", "box", &name]);
        let tar = kiln.run(&["export", "box"]);
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    }
    kiln.ok(&["commit", "-p", "box", "paused"]);
    kiln.ok(&["pause", "box"]);
    kiln.ok(&["commit", "--pause", "box", "paused"]);
    assert_eq!(kiln.ok(&["ps", "--format", "{{.State}}"]), "paused", "it stays as it was");
    kiln.ok(&["unpause", "box"]);
    assert_eq!(kiln.ok(&["ps", "--format", "{{.State}}"]), "running");
    let cat = ["run", "--rm", "--network", "none", "--entrypoint", "cat", "round:14", "/kept"];
    assert_eq!(kiln.ok(&cat), "kept");
}

fn mounts(kiln: &Kiln) -> usize {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(kiln.root.path().join("mounts").to_str().unwrap())).count()
}

#[test]
fn the_files_of_a_container_are_mounted_until_it_goes() {
    let Some(kiln) = kiln("the_files_of_a_container_are_mounted_until_it_goes") else { return };
    let run = ["run", "-d", "--name", "box", "--network", "none", "--entrypoint", "sh", "busybox", "-c"];
    kiln.ok(&[&run[..], &["echo here > /new; sleep 999"]].concat());
    kiln.ok(&["exec", "box", "sh", "-c", "until [ -e /new ]; do sleep 0.02; done"]);
    let path = kiln.ok(&["mount", "box"]);
    let file = |name: &str| std::path::Path::new(&path).join(name);
    assert_eq!(std::fs::read_to_string(file("new")).unwrap(), "here\n");
    std::fs::write(file("put"), "from outside").unwrap();
    assert_eq!(kiln.ok(&["exec", "box", "cat", "/put"]), "from outside");
    assert_eq!(kiln.ok(&["mount", "box"]), path, "once is enough");
    let id = kiln.ok(&["ps", "-q"]);
    assert_eq!(kiln.ok(&["mount"]), format!("{id} {path}"));
    kiln.ok(&["kill", "box"]);
    kiln.ok(&["wait", "box"]);
    let refused = kiln.run(&["start", "box"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("its files are mounted at"));
    assert_eq!(kiln.ok(&["unmount", "box"]), "box");
    assert_eq!((kiln.run(&["unmount", "box"]).status.code(), mounts(&kiln)), (Some(1), 0));
    // A stopped one can be written to, and its next start sees it.
    kiln.ok(&["mount", "box"]);
    std::fs::write(file("stopped"), "too").unwrap();
    assert!(kiln.ok(&["diff", "box"]).contains("A /stopped"));
    kiln.ok(&["unmount", "--all"]);
    kiln.ok(&["start", "box"]);
    assert_eq!(kiln.ok(&["exec", "box", "cat", "/stopped"]), "too");
    kiln.ok(&["container", "mount", "box"]);
    assert_eq!(mounts(&kiln), 1);
    kiln.ok(&["rm", "-f", "box"]);
    assert_eq!((mounts(&kiln), kiln.ok(&["mount"])), (0, String::new()), "nothing stays mounted");
}

#[test]
fn an_image_is_mounted_read_only_and_kept_meanwhile() {
    let Some(kiln) = kiln("an_image_is_mounted_read_only_and_kept_meanwhile") else { return };
    let path = kiln.ok(&["mount", "busybox"]);
    let file = std::path::Path::new(&path).join("data/sub/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "from the image\n");
    assert_eq!(std::fs::write(&file, "x").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    kiln.run(&["rmi", "-f", "busybox"]);
    kiln.ok(&["image", "prune", "-f", "-a"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "from the image\n");
    kiln.ok(&["unmount", "-a"]);
    assert_eq!(mounts(&kiln), 0);
    assert_eq!(kiln.run(&["mount", "nobody"]).status.code(), Some(1));
    assert_eq!(kiln.run(&["image", "mount", "nobody"]).status.code(), Some(1));
}
