//! Images of many layers.

use std::fmt::Write as _;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Overlayfs mounts 500 layers at most.
const LAYERS: usize = 600;

#[test]
fn an_image_of_six_hundred_layers_is_built_and_runs() {
    if !needs_root("an_image_of_six_hundred_layers_is_built_and_runs") {
        return;
    }
    let kiln = Kiln::busybox();
    let mut dockerfile = "FROM busybox\n".to_owned();
    for layer in 0..LAYERS {
        // Now and then one that deletes what an earlier one made, and makes a folder anew.
        let line = match layer % 60 {
            59 => format!(
                "RUN rm -r /d{} && mkdir /d{0} && echo {layer} > /d{0}/again && ls / > /ls",
                layer - 30
            ),
            _ => format!("COPY <<E /d{layer}/f\n{layer}\nE"),
        };
        writeln!(dockerfile, "{line}").unwrap();
    }
    dockerfile += "RUN cat /d*/f | wc -l > /count; cat /d*/again | wc -l >> /count; cat /d597/f >> /count\n";
    let context = kiln.context(&[("Dockerfile", &dockerfile)]);
    kiln.build(&context, &["-t", "deep"]).ok();
    let expected = format!("{}\n10\n597\n", LAYERS - 20);
    assert_eq!(kiln.ok(&["run", "--rm", "--network", "none", "deep", "cat", "/count"]), expected);
    let again = kiln.build(&context, &["-t", "deep"]).ok();
    assert!(again.ended(crate::support::binary::Step::Done).is_empty(), "{again}");
}
