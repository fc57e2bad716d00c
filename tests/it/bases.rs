//! When the layers of a base image are brought: not before a step runs on them.

use std::fs;
use std::path::PathBuf;

use kiln::oci::media_type::OCI_LAYER;

use crate::support::binary::{Kiln, Step, busybox_tar};
use crate::support::needs_root;
use crate::support::registry::FakeRegistry;

/// A registry with busybox as `base`, and how often its layer was fetched.
struct Bench {
    registry: FakeRegistry,
    layer: String,
    kiln: Kiln,
}

impl Bench {
    fn new() -> Self {
        let registry = FakeRegistry::start();
        let layer = busybox_tar();
        let digest = kiln_cache::Digest::of(&layer).to_string();
        let config = serde_json::json!({
            "architecture": kiln::oci::Platform::host().architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [&digest] },
        });
        registry.put_image("base", "latest", &[(OCI_LAYER, &layer)], &config);
        Self { registry, layer: digest, kiln: Kiln::empty() }
    }

    fn context(&self, dockerfile: &str) -> PathBuf {
        self.kiln.context(&[("Dockerfile", &self.text(dockerfile))])
    }

    fn text(&self, dockerfile: &str) -> String {
        dockerfile.replace("BASE", &format!("{}/base", self.registry.host()))
    }

    fn fetched(&self) -> usize {
        self.registry.count(&format!("GET /v2/base/blobs/{}", self.layer))
    }

    fn forget_base(&self) {
        self.kiln.ok(&["rmi", &format!("{}/base", self.registry.host())]);
        self.kiln.ok(&["builder", "prune", "--force"]);
    }
}

#[test]
fn a_build_that_finds_all_above_a_base_does_not_pull_it_again() {
    if !needs_root("a_build_that_finds_all_above_a_base_does_not_pull_it_again") {
        return;
    }
    let bench = Bench::new();
    let stages = "FROM BASE AS build\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM scratch\nCOPY --from=build /id /\n";
    let context = bench.context(stages);
    let first = bench.kiln.build(&context, &["-t", "out"]).ok();
    assert_eq!(bench.fetched(), 1, "{first}");
    assert_eq!(first.error.matches(" ran: ").count(), 2, "a pull has no reason: {first}");

    bench.forget_base();
    let again = bench.kiln.build(&context, &["-t", "out"]).ok();
    assert_eq!(bench.fetched(), 1, "{again}");
    assert_eq!((again.id(), again.ended(Step::Done)), (first.id(), Vec::new()), "{again}");

    // Other files of the stage are wanted: it is made again, on the base.
    fs::write(context.join("Dockerfile"), bench.text(&stages.replace("/id /\n", "/id /there\n"))).unwrap();
    let other = bench.kiln.build(&context, &[]).ok();
    assert_eq!(bench.fetched(), 2, "{other}");
}

#[test]
fn a_base_that_is_the_result_is_pulled() {
    if !needs_root("a_base_that_is_the_result_is_pulled") {
        return;
    }
    let bench = Bench::new();
    let context = bench.context("FROM BASE\nCMD [\"true\"]\n");
    let build = bench.kiln.build(&context, &["-t", "out"]).ok();
    assert_eq!(bench.fetched(), 1, "{build}");
    assert!(bench.kiln.ok(&["images"]).contains("/base"), "it has its name");
    assert_eq!(bench.kiln.build(&context, &["-t", "out"]).ok().id(), build.id());
}

#[test]
fn a_layer_that_cannot_be_had_names_the_line_that_wants_it() {
    if !needs_root("a_layer_that_cannot_be_had_names_the_line_that_wants_it") {
        return;
    }
    let bench = Bench::new();
    let fault = crate::support::registry::Fault::Status(404, Vec::new(), String::new());
    bench.registry.fault(&format!("GET /v2/base/blobs/{}", bench.layer), 99, fault);
    let context = bench.context("# a comment\nFROM BASE\nRUN true\n");
    bench.kiln.build(&context, &[]).fails_with(&["Dockerfile:2", "/base"]);
}
