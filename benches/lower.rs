//! Times parsing and lowering of a Dockerfile of 2,000 instructions in 300 stages: `cargo bench --bench lower`.
//!
//! Prints the median of each in milliseconds. What a build adds to that is measured by `end_to_end.sh`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kiln::api::NetworkMode;
use kiln::build::graph::{Bases, Graph, Hidden, Lowered, Parameters, lower};
use kiln::oci::Platform;
use kiln_grammar::Dockerfile;

const STAGES: usize = 300;
const ROUNDS: usize = 51;

fn main() {
    let text = dockerfile();
    let tree = parse(&text);
    let instructions =
        tree.stages.len() + tree.stages.iter().map(|stage| stage.instructions.len()).sum::<usize>();
    let parsing = median(|| drop(parse(&text)));
    let lowering = median(|| drop(lowered(&tree)));
    let vertices = lowered(&tree).vertices.len();
    let stages = tree.stages.len();
    let shape =
        format!("{instructions} instructions, {stages} stages, {vertices} vertices, {} bytes", text.len());
    let times = format!("parse {:.2} ms, lower {:.2} ms", milliseconds(parsing), milliseconds(lowering));
    let mut out = std::io::stdout().lock();
    let _ = std::io::Write::write_all(&mut out, format!("{shape}\n{times}\n").as_bytes());
}

/// Stages that stand on each other and copy from each other, with variables in most lines.
fn dockerfile() -> String {
    let mut text = String::from("ARG BASE=scratch\n");
    for stage in 0..STAGES {
        let base = if stage % 7 == 0 { "${BASE}".to_owned() } else { format!("s{}", stage - 1) };
        let from = stage.saturating_sub(3);
        let lines = [
            format!("FROM {base} AS s{stage}"),
            format!("ARG V{stage}=value{stage}"),
            format!("ENV E{stage}=${{V{stage}:-x}}/bin \\\n    F{stage}=\"$E{stage} and more\""),
            format!("LABEL l{stage}=\"$E{stage}\""),
            format!("WORKDIR /w/${{V{stage}}}"),
            format!("COPY <<f{stage} /d/\nhello $E{stage}\nf{stage}"),
            if from < stage { format!("COPY --from=s{from} /d /e{stage}") } else { "USER 1".to_owned() },
        ];
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push_str("FROM scratch\n");
    let _ = writeln!(text, "COPY --from=s{} / /", STAGES - 1);
    text
}

fn parse(text: &str) -> Dockerfile {
    kiln_grammar::parse("Dockerfile", text.as_bytes()).expect("the Dockerfile has no mistakes")
}

fn lowered(tree: &Dockerfile) -> Box<Graph> {
    let platform = Platform::new("linux", "amd64", None);
    let parameters = Parameters {
        anew: Vec::new(),
        build_args: Vec::new(),
        labels: Vec::new(),
        target: None,
        platform: platform.clone(),
        build_platform: platform,
        network: NetworkMode::Bridge,
        add_hosts: Vec::new(),
        allow: kiln::api::Allow::default(),
        proxies: Vec::new(),
        hidden: Hidden::default(),
        contexts: Vec::new(),
    };
    match lower(tree, &Bases::new(), &parameters) {
        Ok(Lowered::Ready(graph)) => graph,
        other => panic!("the Dockerfile needs no image: {other:?}"),
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
