//! `soma completions`: what a shell needs to complete the program's commands and options.

use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ForShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    shell: ForShell,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let shell = match arguments.shell {
        ForShell::Bash => Shell::Bash,
        ForShell::Zsh => Shell::Zsh,
        ForShell::Fish => Shell::Fish,
    };
    clap_complete::generate(shell, &mut crate::Arguments::command(), "soma", &mut std::io::stdout());
    ExitCode::SUCCESS
}
