//! The languages, where their interpreters are, and how a program is handed to each.
//!
//! A program is never an argument: it is a file that bubblewrap makes from a descriptor, or stdin.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Runs the program as `python3 FILE` would, but with the working directory first in `sys.path` (it isolates nothing:
/// files in the workspace are the program's own) and with stdout written line by line, so that what was printed
/// before a time-out is not lost. Its own frames are taken out of tracebacks.
const PYTHON_START: &str = r#"
def start():
    import sys
    path = "/code/main.py"
    names = sys.modules["__main__"].__dict__
    del names["start"]
    names["__file__"] = path
    sys.argv[0] = path
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    def report(kind, error, trace):
        while trace and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)
    sys.excepthook = report
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, names)
start()
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Python,
    Bash,
    Node,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such language: {0}")]
pub struct UnknownLanguage(String);

impl Language {
    pub const ALL: [Language; 3] = [Language::Python, Language::Bash, Language::Node];

    pub fn as_str(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::Bash => "bash",
            Language::Node => "node",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(name: &str) -> Result<Language, UnknownLanguage> {
        let found = Language::ALL.into_iter().find(|language| language.as_str() == name);
        found.ok_or_else(|| UnknownLanguage(name.to_owned()))
    }
}

/// An interpreter on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) language: Language,
    pub(crate) program: PathBuf,
    /// A directory that must be shown besides `/usr`, when the interpreter is elsewhere.
    pub(crate) prefix: Option<PathBuf>,
    flags: Vec<String>,
}

/// How the program reaches its interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodePlace {
    File(&'static str),
    Stdin,
}

impl Interpreter {
    /// Looks in the system's directories first; a Python or Node elsewhere is asked where it really lives.
    pub(crate) fn find(language: Language) -> Option<Interpreter> {
        match language {
            Language::Python => system_program("python3")
                .map(|program| Interpreter { language, program, prefix: None, flags: Vec::new() })
                .or_else(|| {
                    let program =
                        "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
                    Interpreter::elsewhere(language, &ask("python3", &["-I", "-c", program])?)
                }),
            Language::Bash => {
                let program = system_program("bash")?;
                Some(Interpreter { language, program, prefix: None, flags: Vec::new() })
            }
            Language::Node => {
                let named = system_program("node").unwrap_or_else(|| PathBuf::from("node"));
                let program = "console.log(process.execPath); console.log(path.dirname(path.dirname(process.execPath)));
                    console.log(process.allowedNodeEnvironmentFlags.has('--experimental-detect-module'))";
                let answer = ask(&named, &["-e", program])?;
                let mut found = Interpreter::elsewhere(language, &answer)?;
                // So that `import` works without a package.json; newer versions do it unasked and keep the flag.
                if answer.get(2).is_some_and(|has| has == "true") {
                    found.flags = vec!["--experimental-detect-module".to_owned(), "--no-warnings".to_owned()];
                }
                Some(found)
            }
        }
    }

    fn elsewhere(language: Language, answer: &[String]) -> Option<Interpreter> {
        let program = PathBuf::from(answer.first()?);
        let prefix = PathBuf::from(answer.get(1)?);
        let shown = program.starts_with("/usr");
        // A prefix such as `/` or `/home` would show far more than an interpreter.
        let narrow = prefix.components().count() > 2 && program.starts_with(&prefix);
        if !shown && !narrow {
            return None;
        }
        Some(Interpreter { language, program, prefix: (!shown).then_some(prefix), flags: Vec::new() })
    }

    pub(crate) fn code_place(&self) -> CodePlace {
        match self.language {
            Language::Python => CodePlace::File("/code/main.py"),
            Language::Bash => CodePlace::File("/code/main.sh"),
            // From stdin, so that `require` and `import` start at the working directory.
            Language::Node => CodePlace::Stdin,
        }
    }

    pub(crate) fn command(&self, memory_bytes: u64) -> Vec<OsString> {
        let mut command = vec![self.program.clone().into_os_string()];
        command.extend(self.flags.iter().map(OsString::from));
        match self.language {
            Language::Python => command.extend(["-B", "-c", PYTHON_START].map(OsString::from)),
            Language::Bash => command.push("/code/main.sh".into()),
            Language::Node => {
                // Node sees no cgroup in there, so it has to be told when to collect garbage.
                let heap_mebibytes = (memory_bytes / 4 * 3 / (1024 * 1024)).max(16);
                command.push(format!("--max-old-space-size={heap_mebibytes}").into());
                command.push("-".into());
            }
        }
        command
    }

    /// Whether an address-space limit can stand in for a memory cgroup: Node reserves far more than it uses.
    pub(crate) fn bears_address_space_limit(&self) -> bool {
        self.language != Language::Node
    }

    /// Whether the interpreter says that it ended for want of memory.
    pub(crate) fn says_out_of_memory(&self, stderr: &str) -> bool {
        match self.language {
            Language::Python => {
                stderr.trim_end().lines().last().is_some_and(|line| line.starts_with("MemoryError"))
            }
            Language::Bash => stderr.contains("cannot allocate"),
            Language::Node => stderr.contains("JavaScript heap out of memory"),
        }
    }
}

pub(crate) fn system_program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}

/// The lines that a trusted program of the host prints. It is looked up in `PATH`.
fn ask(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<Vec<String>> {
    let answer =
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = answer.status.success().then(|| String::from_utf8(answer.stdout).ok())??;
    Some(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_one_name() {
        for language in Language::ALL {
            assert_eq!(language.as_str().parse(), Ok(language));
        }
        assert_eq!("perl".parse::<Language>(), Err(UnknownLanguage("perl".to_owned())));
    }

    #[test]
    fn an_interpreter_elsewhere_shows_its_own_directory_only() {
        let find = |program: &str, prefix: &str| {
            Interpreter::elsewhere(Language::Python, &[program.to_owned(), prefix.to_owned()])
                .map(|found| found.prefix)
        };
        assert_eq!(find("/usr/bin/python3", "/usr"), Some(None));
        let version = "/home/someone/.pyenv/versions/3.11.7";
        assert_eq!(find(&format!("{version}/bin/python3.11"), version), Some(Some(PathBuf::from(version))));
        assert_eq!(find("/home/bin/python3", "/home"), None);
        assert_eq!(find("/home/someone/bin/python3", "/opt/python"), None);
    }
}
