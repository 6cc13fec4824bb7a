//! The scripted model and the effect ledger as a process of their own, for benchmarks and chaos scripts.
//!
//! `soma-testing-servers [--model ADDRESS] [--effects ADDRESS] [--effects-file PATH] [--key KEY]... [--recorded N]`
//! prints one line of JSON with their URLs and runs until its standard input ends or it gets SIGTERM or SIGINT.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use testing::{
    effects::{self, EffectLedger},
    model_server::{self, ScriptedModel},
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soma-testing-servers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (model, effects) = read_arguments(std::env::args().skip(1))?;
    let model = ScriptedModel::start_with(model)?;
    let effects = EffectLedger::start_with(effects)?;
    let urls = serde_json::json!({
        "model": model.base_url(),
        "model_stats": format!("http://{}/stats", model.address()),
        "effects": effects.url(),
        "process": std::process::id(),
    });
    println!("{urls}");
    std::io::stdout().flush()?;
    wait_for_the_end()
}

fn read_arguments(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(model_server::Options, effects::Options), Box<dyn std::error::Error>> {
    let mut model = model_server::Options { recorded_max: 0, ..Default::default() };
    let mut effects = effects::Options::default();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--model" => model.address = value.parse()?,
            "--effects" => effects.address = value.parse()?,
            "--effects-file" => effects.file = Some(value.into()),
            "--key" => model.keys.push(value),
            "--recorded" => model.recorded_max = value.parse()?,
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok((model, effects))
}

fn wait_for_the_end() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (ended, input_ended) = tokio::sync::oneshot::channel();
        // A plain thread: the process ends without waiting for it.
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut buffer = [0; 256];
            while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
            ended.send(()).ok();
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = input_ended => {}
        }
        Ok(())
    })
}
