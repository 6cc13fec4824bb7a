//! `soma policy`: ask the policy a question, run its tests, or write it for an OPA server.

use std::{io::Read, path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::Failure;

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Read an input document (JSON) from standard input and print the decision.
    Eval,
    /// Run the policy's own tests.
    Test,
    /// Write the policy as a bundle for an OPA server (`opa run --server --bundle FOLDER`), and print its revision.
    Bundle {
        /// Where it goes: a folder that is empty, absent, or holds the bundle of before.
        folder: PathBuf,
    },
}

pub fn run(command: Policy) -> Result<ExitCode, Failure> {
    match command {
        Policy::Eval => {
            let policy = platform::policy::Policy::load().map_err(Failure::failed)?;
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(Failure::failed)?;
            let input = serde_json::from_str(&text)
                .map_err(|error| Failure::Failed(format!("the input is no JSON: {error}")))?;
            let decision = policy.evaluate(input);
            println!("{}", serde_json::to_string_pretty(&decision).map_err(Failure::failed)?);
            Ok(ExitCode::SUCCESS)
        }
        Policy::Bundle { folder } => {
            let policy = domains::tools::load_policy().map_err(Failure::failed)?;
            policy.write_bundle(&folder).map_err(Failure::failed)?;
            println!("{}", policy.revision());
            Ok(ExitCode::SUCCESS)
        }
        Policy::Test => {
            let report = platform::policy::Policy::test();
            for result in &report.results {
                match &result.problem {
                    None => println!("ok    {}", result.name),
                    Some(problem) => println!("FAIL  {}: {problem}", result.name),
                }
            }
            if report.passed() {
                Ok(ExitCode::SUCCESS)
            } else {
                Err(Failure::Failed("the policy's tests failed".into()))
            }
        }
    }
}
