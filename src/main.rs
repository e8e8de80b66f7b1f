//! Parses the command, runs it, returns an exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use order_relay::app::commands;
use order_relay::cli::args::Cli;
use order_relay::cli::exit::{Exit, code_of};

/// Every order is about a hundred small strings. The C library's allocator took a fifth of the processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("order-relay: no threads could be started: {error}");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // lapin's thread panics when the runtime is shut down. Everything is finished by then, and the
    // process ends here anyway.
    std::mem::forget(runtime);
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("order-relay: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

/// The reader of our output (`head`, a pager) has closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
