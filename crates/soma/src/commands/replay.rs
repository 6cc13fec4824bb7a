//! `soma replay`: whether this program can go on with turns that another version began.

use std::{path::PathBuf, process::ExitCode};

use contracts::RunId;
use temporal::{Host, ReplayError, TemporalEngine};

use super::{Failure, config};
use crate::turns::{Turn, temporal_config};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Histories in files, as `--save` writes them. No server is asked then.
    files: Vec<PathBuf>,
    /// The history of this run, under way or over; without files and runs, of every turn under way.
    #[arg(long = "run", value_name = "ID", conflicts_with = "files")]
    runs: Vec<RunId>,
    /// Write the histories to this folder, too.
    #[arg(long, value_name = "FOLDER", conflicts_with = "files")]
    save: Option<PathBuf>,
}

struct Recorded {
    name: String,
    history: Vec<u8>,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let recorded = if arguments.files.is_empty() {
        fetched(arguments.runs).await?
    } else {
        arguments.files.into_iter().map(read).collect::<Result<_, _>>()?
    };
    if let Some(folder) = arguments.save {
        for Recorded { name, history } in &recorded {
            let path = folder.join(format!("{name}.json"));
            std::fs::write(&path, history)
                .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
        }
    }
    let mut unfit = 0;
    for Recorded { name, history } in &recorded {
        match temporal::replay::<Turn>(history).await {
            Ok(()) => println!("fits          {name}"),
            Err(ReplayError::DoesNotFit(why)) => {
                unfit += 1;
                println!("does not fit  {name}: {why}");
            }
            Err(error) => return Err(Failure::Failed(format!("{name}: {error}"))),
        }
    }
    if unfit > 0 {
        let all = recorded.len();
        return Err(Failure::Failed(format!(
            "{unfit} of {all} turns would fail on a worker of this version: let them end first, or let workers be \
             versions (SA01_TEMPORAL_DEPLOYMENT) and keep the earlier ones until then"
        )));
    }
    if recorded.is_empty() {
        println!("no turn is under way");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: PathBuf) -> Result<Recorded, Failure> {
    let name = path.display().to_string();
    let history = std::fs::read(&path).map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    Ok(Recorded { name, history })
}

async fn fetched(mut runs: Vec<RunId>) -> Result<Vec<Recorded>, Failure> {
    let Some(temporal) = temporal_config(&config().await?) else {
        let problem =
            "SA01_TEMPORAL_HOST: workflows are embedded, and have no histories; name files, or a server";
        return Err(Failure::Configuration(problem.into()));
    };
    let engine = TemporalEngine::new(temporal, Turn::NAME);
    let named = !runs.is_empty();
    if !named {
        runs = engine.under_way().await.map_err(Failure::failed)?;
    }
    let mut recorded = Vec::new();
    for run in runs {
        match engine.history(run).await.map_err(Failure::failed)? {
            Some(history) => recorded.push(Recorded { name: run.to_string(), history }),
            None if named => {
                return Err(Failure::Failed(format!("the Temporal server does not know the run {run}")));
            }
            // It ended and was forgotten since it was listed.
            None => {}
        }
    }
    Ok(recorded)
}
