//! Reads a `.env` file: `NAME=value` lines, `#` comments, optional quotes. No expansion: a value is what it says.

use std::{collections::HashMap, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path};

use super::Fault;

/// Permission bits of the group and of others.
const OTHERS: u32 = 0o077;

pub(super) fn read(path: &Path) -> Result<HashMap<String, String>, Fault> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(Fault::new(".env", format!("can't be read: {error}"))),
    };
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        let problem = format!("may be read by others (mode {:04o}): run `chmod 600 .env`", mode & 0o7777);
        return Err(Fault::new(".env", problem));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::new(".env", format!("can't be read: {error}")))?;
    let mut values = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(Fault::new(".env", format!("line {}: expected NAME=value", number + 1)));
        };
        values.insert(name.trim().to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(values)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}
