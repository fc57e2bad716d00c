//! The doors of kiln, opened before any thread starts: the launcher of steps, the monitor of a container, the
//! helper of an exec, the proxy of published ports, the resolver of a network, the OCI runtime, the writer and the
//! compressor of a log, the flush of a store, and the command line.

fn main() {
    let code = match std::env::args_os().nth(1).as_deref().and_then(|door| door.to_str()) {
        Some("_launcher") => kiln::runtime::launcher_main(),
        Some("_monitor") => kiln::container::monitor_main(std::env::args().nth(2).as_deref()),
        Some(kiln::container::COMPRESS_DOOR) => kiln::container::compress_main(std::env::args_os().skip(2)),
        Some(kiln::container::PUMP_DOOR) => kiln::container::pump_main(std::env::args_os().skip(2)),
        Some("_resolver") => kiln::container::resolver_main(),
        Some("_exec") => kiln::container::exec_main(),
        Some("_proxy") => kiln::container::proxy_main(),
        Some("_runtime") => kiln::cli::runtime_main(std::env::args_os().skip(2)),
        Some(kiln::engine::flush::DOOR) => kiln::engine::flush::main(std::env::args_os().skip(2)),
        _ => kiln::cli::main(std::env::args_os().skip(1)),
    };
    #[expect(clippy::disallowed_methods, reason = "the code comes from the door, and nothing is left to run")]
    std::process::exit(code)
}
