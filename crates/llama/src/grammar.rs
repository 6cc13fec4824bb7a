//! The grammar (llama.cpp's GBNF) that an answer must keep to when tools are offered.
//!
//! The envelope has one spelling, so `read` can take it apart while it is still being written. Arguments are any
//! JSON object, not the tool's own schema: schemas come from tenants and their servers, and none of them may decide
//! how large a grammar gets. Everything the grammar lets through, `serde_json` parses: nesting, numbers and
//! surrogates are bounded here.

use std::fmt::Write;

use contracts::model::ToolSpec;

pub(crate) const ROOT: &str = "root";
pub(crate) const ANSWER_OPEN: &str = r#"{"answer": ""#;
pub(crate) const TOOL_OPEN: &str = r#"{"tool": "#;
pub(crate) const ARGUMENTS_OPEN: &str = r#", "arguments": "#;

/// Levels of nesting in a tool's arguments.
const DEPTH_MAX: usize = 6;

const SCALARS: &str = r#"
scalar ::= string | number | "true" | "false" | "null"
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" point)
point ::= [0-9a-cA-Ce-fE-F] hex hex hex | [dD] [0-7] hex hex | [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex
hex ::= [0-9a-fA-F]
space ::= " "?
"#;

/// The grammar for an answer or a call of one of these tools. There must be one at least.
pub(crate) fn of(tools: &[ToolSpec]) -> String {
    let names: Vec<String> = tools.iter().map(|tool| literal(&quoted(&tool.name))).collect();
    let mut grammar = format!(
        "{ROOT} ::= {answer} char* \"\\\"}}\" | {tool} name {arguments} object0 \"}}\"\nname ::= {names}\n",
        answer = literal(ANSWER_OPEN),
        tool = literal(TOOL_OPEN),
        arguments = literal(ARGUMENTS_OPEN),
        names = names.join(" | "),
    );
    for depth in 0..DEPTH_MAX {
        write_level(&mut grammar, depth);
    }
    grammar.push_str(SCALARS);
    grammar
}

fn write_level(grammar: &mut String, depth: usize) {
    let value = if depth + 1 == DEPTH_MAX {
        "scalar".to_owned()
    } else {
        format!("(scalar | object{next} | array{next})", next = depth + 1)
    };
    // Writing to a String can't fail.
    let _ = writeln!(
        grammar,
        r#"member{depth} ::= string ":" space {value}
object{depth} ::= "{{" (member{depth} ("," space member{depth})*)? "}}"
array{depth} ::= "[" ({value} ("," space {value})*)? "]""#
    );
}

/// A name as JSON writes it.
pub(crate) fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// A text that must stand in the answer as it is.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#))
}

#[cfg(test)]
mod tests {
    use contracts::model::ToolSpec;
    use serde_json::json;

    use super::of;

    #[test]
    fn a_hostile_tool_name_stays_inside_its_literal() {
        let tool = ToolSpec {
            name: "a\" | \"\\\n".to_owned(),
            description: String::new(),
            parameters: json!({ "type": "object" }),
        };
        let name = of(&[tool]).lines().find(|line| line.starts_with("name")).unwrap().to_owned();
        assert_eq!(name, r#"name ::= "\"a\\\" | \\\"\\\\\\n\"""#);
    }
}
