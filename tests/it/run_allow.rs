//! What RUN steps may do beyond their sandbox, and only with the user's word: `--network`, `--security`, `--device`.

use crate::support::binary::{Kiln, Step, read, run};
use crate::support::needs_root;

#[test]
fn a_step_has_the_network_that_it_names() {
    if !needs_root("a_step_has_the_network_that_it_names") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN --network=none ls /sys/class/net > /none\nRUN --network=host ls /sys/class/net > /host\n\
         RUN --network=default ls /sys/class/net > /default\n",
    )]);
    kiln.build(&context, &[]).fails_with(&[
        "RUN --network=host needs the user's consent",
        "hint: build with `--allow network.host`",
    ]);
    let files = kiln.build_files(&context, &["--allow", "network.host"]);
    let mut own: Vec<String> = crate::support::binary::names(std::path::Path::new("/sys/class/net"));
    // Other tests make and remove theirs meanwhile.
    own.retain(|name| name == "lo" || name.starts_with("eth"));
    let host = read(&files, "host");
    assert!(own.iter().all(|name| host.lines().any(|line| line == name)), "{own:?} {host}");
    assert_eq!((read(&files, "none").as_str(), read(&files, "default").as_str()), ("lo\n", "lo\n"));
}

#[test]
fn a_step_without_a_sandbox_needs_the_users_word() {
    if !needs_root("a_step_without_a_sandbox_needs_the_users_word") {
        return;
    }
    let kiln = Kiln::busybox();
    let caps = "grep CapEff /proc/1/status";
    let context = kiln.context(&[(
        "Dockerfile",
        &format!(
            "FROM busybox\nRUN {caps} > /sandbox\nRUN --security=insecure {caps} > /insecure; grep Seccomp: /proc/1/status >> /insecure\n\
             RUN --security=sandbox {caps} | cmp - /sandbox && echo same > /again\n"
        ),
    )]);
    kiln.build(&context, &[]).fails_with(&[
        "RUN --security=insecure needs the user's consent",
        "hint: build with `--allow security.insecure`",
    ]);
    let files = kiln.build_files(&context, &["--allow", "security.insecure"]);
    let insecure = read(&files, "insecure");
    assert!(read(&files, "sandbox").contains("00000000a80425fb"), "{}", read(&files, "sandbox"));
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    assert!(insecure.contains(own), "{own} {insecure}");
    assert!(insecure.contains("Seccomp:\t0"), "{insecure}");
    assert_eq!(read(&files, "again"), "same\n");
}

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "acme.example/null", "devices": [{"name": "one", "containerEdits": {
    "env": ["ACME=1"], "deviceNodes": [{"path": "/dev/acme", "hostPath": "/dev/zero"}],
    "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/opt/acme/name", "options": ["ro", "bind"]}]}}]}"#;

#[test]
fn a_step_gets_the_devices_of_cdi_specs() {
    if !needs_root("a_step_gets_the_devices_of_cdi_specs") {
        return;
    }
    let kiln = Kiln::busybox();
    let specs = kiln.scratch().join("cdi");
    std::fs::create_dir(&specs).unwrap();
    std::fs::write(specs.join("acme.json"), SPEC).unwrap();
    let context = |device: &str| {
        let text = format!(
            "FROM busybox\nRUN --device={device} head -c 3 /dev/acme | wc -c > /read; echo $ACME > /env; cat /opt/acme/name > /name\n\
             RUN test ! -e /opt/acme && test ! -e /dev/acme\n"
        );
        kiln.context(&[("Dockerfile", &text)])
    };
    let build = |device: &str, words: &[&str]| {
        let out = tempfile::tempdir_in(kiln.scratch()).unwrap();
        let output = format!("type=local,dest={}", out.path().display());
        let mut command = kiln.build_command(&context(device), words);
        (run(command.args(["-o", &output]).env("KILN_CDI", &specs)), out)
    };
    let one = "acme.example/null=one";
    build(one, &[])
        .0
        .fails_with(&["RUN --device needs the user's consent", "`--allow device=acme.example/null=one`"]);
    let (ran, files) = build(one, &["--allow", "device=acme.example/null=one"]);
    assert_eq!(ran.ok().ended(Step::Done).len(), 2);
    assert_eq!((read(&files, "read"), read(&files, "env")), ("3\n".into(), "1\n".into()));
    assert_eq!(read(&files, "name"), std::fs::read_to_string("/etc/hostname").unwrap());
    let (ran, _) = build("acme.example/null=two,required", &["--allow", "device"]);
    ran.fails_with(&[
        "the device `acme.example/null=two` is needed",
        "hint: there are `acme.example/null=one`",
    ]);
}

#[test]
fn shared_memory_has_the_size_that_is_asked_for() {
    if !needs_root("shared_memory_has_the_size_that_is_asked_for") {
        return;
    }
    let kiln = Kiln::busybox();
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN grep ' /dev/shm ' /proc/mounts > /shm\n")]);
    assert!(read(&kiln.build_files(&context, &["--shm-size", "3m"]), "shm").contains("size=3072k"));
    kiln.build(&context, &["--shm-size", "much"]).fails_with(&["invalid `--shm-size much`"]);
}
