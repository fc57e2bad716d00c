//! The doors of kiln.

/// The command line.
fn main() {
    let code = kiln::cli::main(std::env::args_os().skip(1));
    #[expect(clippy::disallowed_methods, reason = "the code comes from `cli`, and nothing is left to run")]
    std::process::exit(code)
}
