//! `soma registry`, `soma openapi` and `soma domains`: the program described by itself.

use std::process::ExitCode;

use domains::DOMAINS;
use platform::config::{SETTINGS, Source};

use super::{Failure, environment};

/// Never a value: a setting may be a secret.
pub fn registry() -> Result<ExitCode, Failure> {
    let environment = environment()?;
    let width = SETTINGS.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
    println!("{:width$}  {:8} {:9} {:6} meaning", "name", "kind", "required", "set");
    for setting in SETTINGS {
        let set = environment.get(setting.name).is_some_and(|value| !value.is_empty());
        let required = if setting.required { "required" } else { "optional" };
        let set = if set { "set" } else { "-" };
        let default = setting.default.filter(|default| !default.is_empty());
        let default = default.map(|default| format!(" Default `{default}`.")).unwrap_or_default();
        println!(
            "{:width$}  {:8} {required:9} {set:6} {}{default}",
            setting.name,
            setting.kind.as_str(),
            setting.meaning
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub fn openapi() -> Result<ExitCode, Failure> {
    let assembled = domains::assemble(DOMAINS).map_err(Failure::failed)?;
    println!("{}", assembled.openapi.to_pretty_json().map_err(Failure::failed)?);
    Ok(ExitCode::SUCCESS)
}

pub fn domains() -> ExitCode {
    for domain in DOMAINS {
        println!("{:14} {}", domain.name, domain.prefixes.join(" "));
    }
    ExitCode::SUCCESS
}
