//! `soma`: the one program. It reads the command line, runs the command, and turns how it ended into an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 78 configuration.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to whoever started it")]

mod build;
mod commands;
mod events;
mod gateway;
mod turns;
mod web;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use commands::{Command, Failure};

/// The system's allocator took a quarter of the time of what allocates much: evaluating the policy, reading JSON.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted platform for AI agents.
#[derive(Debug, Parser)]
#[command(name = "soma", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// For threads that have not ended when the command has.
const END_WAIT: Duration = Duration::from_secs(5);

/// sysexits.h: EX_CONFIG.
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("soma: the runtime can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(commands::run(arguments.command));
    // What a library waits in does not keep the program from ending.
    runtime.shutdown_timeout(END_WAIT);
    match ended {
        Ok(code) => code,
        Err(Failure::Configuration(problem)) => {
            eprintln!("soma: {problem}");
            ExitCode::from(CONFIGURATION)
        }
        Err(Failure::Failed(problem)) => {
            eprintln!("soma: {problem}");
            ExitCode::FAILURE
        }
    }
}
