//! `ddadm`: the process around the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use ddadm::Stdout;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on one thread needs nothing but memory and an epoll descriptor");
    let stdout_is = match std::io::stdout().is_terminal() {
        true => Stdout::Terminal,
        false => Stdout::Pipe,
    };
    let exit = runtime.block_on(ddadm::run(
        std::env::args_os(),
        &mut std::io::stdin().lock(),
        &mut std::io::stdout().lock(),
        stdout_is,
        &mut std::io::stderr().lock(),
    ));
    exit.into()
}
