//! The design's rules, checked on the source itself. Each rule is also given something that breaks it, so that a
//! rule that no longer sees anything fails.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::source::{Source, is_test_file};

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files below a folder, by their path from the root, without what git ignores.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    const IGNORED: [&str; 7] = [".git", "target", "node_modules", "tmp", "data", "dist", ".env"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        // The type of the link, not of what it points to.
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    files(&root().join("crates"), &mut found);
    let rust = found.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    rust.map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        Source::read(&name, &fs::read_to_string(&path).unwrap())
    })
    .collect()
}

type Rule = fn(&Source) -> Vec<String>;

/// No source breaks the rule, and each of these does.
#[track_caller]
fn holds(rule: Rule, broken_by: &[(&str, &str)]) {
    for (name, text) in broken_by {
        assert!(!rule(&Source::read(name, text)).is_empty(), "the rule does not see {name}: {text}");
    }
    let sources = sources();
    assert!(sources.len() > 100, "the sources are found");
    let faults: Vec<String> = sources.iter().flat_map(rule).collect();
    assert_eq!(faults, Vec::<String>::new());
}

const MADE_UP: &str = "crates/domains/src/made_up/service.rs";

#[test]
fn every_module_opens_by_saying_what_it_is_for() {
    let rule: Rule = |source| match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![format!("{} does not open with `//!`", source.name)],
    };
    holds(rule, &[(MADE_UP, "use std::fs;\n//! Late.\n")]);
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let rule: Rule = |source| match source.text.lines().count() {
        0..LINES_MAX => Vec::new(),
        lines => vec![format!("{} has {lines} lines", source.name)],
    };
    holds(rule, &[(MADE_UP, &"\n".repeat(LINES_MAX))]);
}

/// Where SQL may stand.
fn is_store(name: &str) -> bool {
    name.ends_with("/store.rs")
        || name.contains("/store/")
        || name.starts_with("crates/platform/src/database/")
        || name == "crates/domains/src/tools/effects.rs"
        || name.starts_with("crates/testing/")
        || is_test_file(name)
}

#[test]
fn only_stores_have_sql() {
    let rule: Rule = |source| {
        if is_store(&source.name) {
            return Vec::new();
        }
        let is_sql = |literal: &str| {
            let words: Vec<&str> = literal.split_whitespace().collect();
            let has = |word: &str| words.contains(&word);
            match words.first() {
                Some(&"SELECT") => true,
                Some(&"INSERT") => has("INTO"),
                Some(&"UPDATE") => has("SET"),
                Some(&"DELETE") => has("FROM"),
                Some(&"CREATE" | &"DROP" | &"ALTER") => has("TABLE") || has("INDEX"),
                _ => false,
            }
        };
        let literals = source.literals.iter().filter(|(_, literal)| is_sql(literal));
        literals.map(|(line, _)| format!("{}:{line} has SQL outside a store", source.name)).collect()
    };
    holds(
        rule,
        &[
            (MADE_UP, "fn a() { let sql = \"SELECT 1\"; }"),
            (MADE_UP, "const A: &str = r#\"\n  UPDATE runs\n SET state = 'x'\"#;"),
            ("crates/soma/src/a.rs", "fn a() { run(\"DELETE FROM runs\") }"),
        ],
    );
}

#[test]
fn a_domain_uses_anothers_service_and_never_its_store() {
    let rule: Rule = |source| {
        let Some(rest) = source.name.strip_prefix("crates/domains/src/") else { return Vec::new() };
        let own = rest.split('/').next().unwrap_or_default();
        let mut faults = Vec::new();
        for (number, line) in source.code_lines() {
            for (at, _) in line.match_indices("::store") {
                let before = &line[..at];
                let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
                let owner = &before[start..];
                if !matches!(owner, "super" | "self") && owner != own {
                    faults.push(format!("{}:{number} uses the store of {owner}", source.name));
                }
            }
        }
        faults
    };
    holds(
        rule,
        &[
            (MADE_UP, "use crate::conversations::store;"),
            (MADE_UP, "fn a() { crate::agents::store::find() }"),
        ],
    );
}

#[test]
fn only_the_configuration_reads_the_environment() {
    const READERS: [&str; 4] = [
        "crates/platform/src/config/",
        // Test switches, which no released binary has.
        "crates/platform/src/faults.rs",
        "crates/domains/src/tools/effects.rs",
        "crates/testing/",
    ];
    let rule: Rule = |source| {
        if READERS.iter().any(|reader| source.name.starts_with(reader)) || is_test_file(&source.name) {
            return Vec::new();
        }
        source.lines_with(&["env::var", "env::vars", "env::{var"], "reads the environment")
    };
    holds(
        rule,
        &[
            (MADE_UP, "fn a() { std::env::var(\"A\"); }"),
            (MADE_UP, "fn a() { env::vars_os(); }"),
            (MADE_UP, "use std::env::{var, vars};"),
        ],
    );
}

#[test]
fn unsafe_code_is_in_the_sandbox_alone_and_its_module_says_why() {
    let rule: Rule = |source| {
        let found =
            source.lines_with(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"], "is unsafe");
        let says_why = source.header().to_lowercase().contains("unsafe");
        if source.name.starts_with("crates/sandbox/src/") && says_why { Vec::new() } else { found }
    };
    holds(
        rule,
        &[
            (MADE_UP, "//! It is unsafe because.\nfn a() { unsafe { b() } }"),
            ("crates/sandbox/src/a.rs", "//! Says nothing.\nunsafe fn a() {}"),
        ],
    );
}

#[test]
fn nothing_but_tests_panics_on_purpose_and_nothing_but_commands_prints() {
    let rule: Rule = |source| {
        if source.name.starts_with("crates/testing/") || is_test_file(&source.name) {
            return Vec::new();
        }
        let panics = [
            ".unwrap()",
            ".expect(",
            ".unwrap_err()",
            ".expect_err(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
        ];
        let mut faults = source.lines_with(&panics, "may panic");
        // A build script speaks to cargo by what it prints.
        if !source.name.starts_with("crates/soma/src/") && !source.name.ends_with("/build.rs") {
            faults.extend(source.lines_with(&["println!(", "print!(", "dbg!("], "prints"));
        }
        faults
    };
    holds(
        rule,
        &[
            (MADE_UP, "fn a() { b().unwrap(); }"),
            (MADE_UP, "fn a() { b()\n    .expect(\"c\"); }"),
            (MADE_UP, "fn a() { panic!(\"b\") }"),
            (MADE_UP, "fn a() { eprintln!(\"b\") }"),
            (MADE_UP, "#[cfg(test)]\nmod tests {\n fn a() {}\n}\nfn a() { b().unwrap() }"),
            ("crates/soma/src/a.rs", "fn a() { b().unwrap(); println!() }"),
        ],
    );
}

#[test]
fn a_type_that_holds_key_material_does_not_show_it_in_debug() {
    /// Names of fields that hold something secret.
    const SECRET: [&str; 9] =
        ["secret_key", "secret", "password", "token", "api_key", "bearer", "fernet", "private_key", "keys"];
    let rule: Rule = |source| {
        if source.name.starts_with("crates/testing/") || is_test_file(&source.name) {
            return Vec::new();
        }
        let mut derives_debug = false;
        let mut in_debug_struct = false;
        let mut faults = Vec::new();
        for (number, line) in source.code_lines() {
            let line = line.trim();
            derives_debug |= line.starts_with("#[derive(") && line.contains("Debug");
            if line.contains("struct ") && line.ends_with('{') {
                in_debug_struct = std::mem::take(&mut derives_debug);
            } else if line.starts_with('}') || line.contains("fn ") || line.contains("enum ") {
                (derives_debug, in_debug_struct) = (false, false);
            }
            let Some((field, kind)) = line.split_once(": ") else { continue };
            let field = field.rsplit(' ').next().unwrap_or_default();
            let plain = kind.replace("SecretString", "");
            if in_debug_struct
                && SECRET.contains(&field)
                && (plain.contains("String") || plain.contains("str"))
            {
                faults.push(format!("{}:{number} shows `{field}` in Debug", source.name));
            }
        }
        faults
    };
    holds(
        rule,
        &[
            (MADE_UP, "#[derive(Debug, Clone)]\npub struct A {\n    pub api_key: String,\n}"),
            (MADE_UP, "#[derive(Debug)]\nstruct A {\n    id: u8,\n    keys: Vec<String>,\n}"),
            (MADE_UP, "#[derive(Clone, Debug)]\nstruct A<'a> {\n    token: Option<&'a str>,\n}"),
        ],
    );
}

#[test]
fn a_lint_is_expected_with_a_reason_and_never_allowed() {
    let rule: Rule = |source| {
        let mut faults =
            source.lines_with(&["[allow(", "![allow("], "allows a lint: expect it, with a reason");
        let mut rest = source.code.as_str();
        while let Some(at) = rest.find("[expect(") {
            rest = &rest[at..];
            let end = rest.find(")]").unwrap_or(rest.len());
            if !rest[..end].contains("reason") {
                faults.push(format!("{} expects a lint without a reason", source.name));
            }
            rest = &rest[end..];
        }
        faults
    };
    holds(rule, &[(MADE_UP, "#[allow(dead_code)]\nfn a() {}"), (MADE_UP, "#[expect(dead_code)]\nfn a() {}")]);
}

/// What gives away a secret, or the machine on which a file was written.
fn gives_away(name: &str, text: &str) -> Vec<String> {
    // Put together here, so that this file does not hold them.
    let machine = ["/ro\u{6f}t/", "/h\u{6f}me/", "/w\u{6f}rk/", "/Us\u{65}rs/"];
    let secrets = [
        "BEGIN PRIVATE KE\u{59}",
        "BEGIN RSA PRIVATE KE\u{59}",
        "BEGIN OPENSSH PRIVATE KE\u{59}",
        "gh\u{70}_",
        "AKI\u{41}",
    ];
    // The sandbox names places of a machine that a program must not reach.
    let names_places = name.starts_with("crates/sandbox/");
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{name}:{}", index + 1);
        if !names_places && machine.iter().any(|path| line.contains(path)) {
            faults.push(format!("{} names a place of one machine", place()));
        }
        if secrets.iter().any(|secret| line.contains(secret))
            || has_key(line, "sk-", 32)
            || has_key(line, "soma_", 40)
        {
            faults.push(format!("{} looks like a secret", place()));
        }
    }
    faults
}

/// Whether the line has the mark and that many characters of a key right after it.
fn has_key(line: &str, mark: &str, length: usize) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let key =
            line[at + mark.len()..].chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c));
        let key: Vec<char> = key.collect();
        let different = key.iter().collect::<std::collections::BTreeSet<_>>().len();
        key.len() >= length && different > 8 && key.iter().any(char::is_ascii_digit)
    })
}

#[test]
fn no_file_holds_a_secret_or_a_path_of_the_machine_it_was_written_on() {
    let key = format!("{}{}", "sk-", "a1b2c3d4e5f6g7h8".repeat(2));
    for broken in ["cd /ro\u{6f}t/x", "-----BEGIN PRIVATE KE\u{59}-----", &key] {
        assert_eq!(gives_away("README.md", broken).len(), 1, "{broken}");
    }
    let mut found = Vec::new();
    files(&root(), &mut found);
    let mut faults = Vec::new();
    for path in found {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        // What is no text holds nothing that can be read here.
        if let Ok(text) = fs::read_to_string(&path) {
            faults.extend(gives_away(&name, &text));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}
