//! Runs the policy's own tests, as `opa test` would: every rule named `test_...` must be true.

use regorus::Engine;
use serde::Serialize;

use super::{DATA, DECISION, DECISION_MODULE, LoadError, Module, TABLES_MODULE, document};

const DECISION_TESTS: Module = ("decision_test.rego", include_str!("../../../../policy/decision_test.rego"));
const TABLES_TESTS: Module = ("tables_test.rego", include_str!("../../../../policy/tables_test.rego"));

/// What became of the policy's tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    pub results: Vec<TestResult>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// The rule, `data.soma.policy_test.test_...`, or `policy` where it did not load.
    pub name: String,
    pub passed: bool,
    /// Why not, where there is more to say than that the rule did not hold.
    pub problem: Option<String>,
}

impl TestReport {
    /// Whether there were tests and all of them passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.results.is_empty() && self.results.iter().all(|result| result.passed)
    }
}

pub(super) fn run() -> TestReport {
    let results = match rules() {
        Ok((mut engine, rules)) => rules.into_iter().map(|rule| run_one(&mut engine, rule)).collect(),
        Err(error) => vec![failed("policy", error.to_string())],
    };
    TestReport { results }
}

/// The tests' names, and an engine that decides from the tables' values as the real one does.
fn rules() -> Result<(Engine, Vec<String>), LoadError> {
    let data = super::with_tables(TABLES_MODULE.1, &document::parse(DATA)?)?;
    let mut engine = super::engine(&[DECISION_MODULE, DECISION_TESTS, TABLES_TESTS], data)?;
    // Compiling is how an engine tells which rules it has.
    let compiled = engine.compile_with_entrypoint(&DECISION.into()).map_err(super::rego)?;
    let is_test = |path: &&String| path.rsplit('.').next().is_some_and(|n| n.starts_with("test_"));
    let rules = compiled.get_rules().keys().filter(is_test).cloned().collect();
    Ok((engine, rules))
}

fn run_one(engine: &mut Engine, rule: String) -> TestResult {
    match engine.eval_rule(rule.clone()) {
        Ok(value) if value == true.into() => TestResult { name: rule, passed: true, problem: None },
        Ok(_) => TestResult { name: rule, passed: false, problem: None },
        Err(error) => failed(&rule, error.to_string()),
    }
}

fn failed(name: &str, problem: String) -> TestResult {
    TestResult { name: name.to_owned(), passed: false, problem: Some(problem) }
}
