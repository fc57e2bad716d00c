//! Tests of `hosts.toml` files.

use super::*;

fn with_file(name: &str, text: &str, registry: &str) -> Result<Vec<Endpoint>> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    endpoints(registry, &[root.path().to_owned()])
}

fn bases(endpoints: &[Endpoint]) -> Vec<&str> {
    endpoints.iter().map(|endpoint| endpoint.base.as_str()).collect()
}

#[test]
fn without_configuration_the_registry_itself_is_asked() {
    for (registry, base) in [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("ghcr.io", "https://ghcr.io/v2"),
        ("host.example:8443", "https://host.example:8443/v2"),
        ("localhost", "http://localhost/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.9:5000", "http://127.0.0.9:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost:443", "https://localhost/v2"),
        ("192.168.1.1:5000", "https://192.168.1.1:5000/v2"),
    ] {
        assert_eq!(bases(&endpoints(registry, &[]).unwrap()), [base], "{registry}");
    }
}

#[test]
fn mirrors_come_in_the_order_of_the_file_and_the_server_last() {
    let text = r#"
        server = "https://upstream.example"
        [host."http://z.example:1"]
        capabilities = ["pull"]
        [host."https://a.example/prefix"]
        [host."https://m.example/api/"]
        override_path = true
        skip_verify = true
        [host."127.0.0.1:7000"]
    "#;
    let found = with_file("docker.io", text, "docker.io").unwrap();
    assert_eq!(
        bases(&found),
        [
            "http://z.example:1/v2",
            "https://a.example/prefix/v2",
            "https://m.example/api",
            "http://127.0.0.1:7000/v2",
            "https://upstream.example/v2",
        ]
    );
    assert_eq!(found[0].can, Capabilities { pull: true, resolve: false, push: false });
    assert_eq!(found[1].can, Capabilities::ALL);
    assert!(found[2].tls.skip_verify && !found[1].tls.skip_verify);
    assert_eq!(found[0].label, "docker.io through mirror http://z.example:1");
    assert_eq!((found[4].label.as_str(), &found[4].mirrors), ("docker.io", &None));
}

#[test]
fn the_registry_itself_follows_its_mirrors_without_a_server_line() {
    let found = with_file("docker.io", "[host.\"http://127.0.0.1:1\"]", "docker.io").unwrap();
    assert_eq!(bases(&found), ["http://127.0.0.1:1/v2", "https://registry-1.docker.io/v2"]);
}

#[test]
fn certificates_and_headers_are_read() {
    let text = r#"
        server = "https://r.example:8443"
        ca = "own.pem"
        client = [["c.cert", "c.key"]]
        dial_timeout = "500ms"
        [header]
        x-token = "secret"
        x-many = ["1", "2"]
    "#;
    let found = with_file("r.example_8443_", text, "r.example:8443").unwrap();
    let [own] = &found[..] else { panic!("{found:?}") };
    assert!(own.tls.ca[0].ends_with("r.example_8443_/own.pem"));
    assert!(own.tls.client.as_ref().unwrap().1.as_ref().unwrap().ends_with("c.key"));
    assert_eq!(own.dial_timeout, Some(Duration::from_millis(500)));
    assert_eq!(own.headers.get_all("x-many").iter().count(), 2);
    assert!(!format!("{own:?}").contains("secret"));
}

#[test]
fn an_own_folder_wins_over_the_default_of_an_earlier_one() {
    let root = tempfile::tempdir().unwrap();
    let write = |folder: &str, server: &str| {
        let folder = root.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hosts.toml"), format!("server = \"{server}\"")).unwrap();
    };
    write("a/_default", "https://default.example");
    write("b/r.example", "https://own.example");
    let folders = [root.path().join("a"), root.path().join("b")];
    assert_eq!(bases(&endpoints("r.example", &folders).unwrap()), ["https://own.example/v2"]);
    assert_eq!(bases(&endpoints("other.example", &folders).unwrap()), ["https://default.example/v2"]);
}

#[test]
fn dockers_certificates_are_trusted() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("r.example");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["ca.crt", "me.cert", "me.key"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let found = endpoints("r.example", &[root.path().to_owned()]).unwrap();
    assert_eq!(found[0].tls.ca, [folder.join("ca.crt")]);
    assert_eq!(found[0].tls.client, Some((folder.join("me.cert"), Some(folder.join("me.key")))));
}

#[test]
fn wrong_files_are_refused_by_name() {
    for text in [
        "server = 1",
        "[host.\"ftp://x\"]",
        "[host.\"http://x\"]\ncapabilities = [\"fly\"]",
        "[",
        "dial_timeout = \"soon\"",
    ] {
        let error = with_file("docker.io", text, "docker.io").unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{text}: {error}");
        assert!(error.to_string().contains("hosts.toml"), "{error}");
    }
}
