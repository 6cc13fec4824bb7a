//! Comma-separated values (RFC 4180) that a spreadsheet takes for text and never for a formula.

/// Adds a line of fields.
pub(super) fn line<'a>(into: &mut String, fields: impl IntoIterator<Item = Field<'a>>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            into.push(',');
        }
        match field {
            Field::Number(number) => into.push_str(&number.to_string()),
            Field::Text(text) => write(into, text),
        }
    }
    into.push_str("\r\n");
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Number(i64),
    Text(&'a str),
}

/// Spreadsheets evaluate a field that begins with one of these (the last four are the wide forms), also after blanks.
/// With an apostrophe before it they show it as it is.
const BEGINS_A_FORMULA: [char; 10] =
    ['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

fn write(into: &mut String, text: &str) {
    into.push('"');
    if text.starts_with(BEGINS_A_FORMULA) || text.trim_start().starts_with(BEGINS_A_FORMULA) {
        into.push('\'');
    }
    into.push_str(&text.replace('"', "\"\""));
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::{Field, line};

    #[test]
    fn a_field_is_quoted_and_no_formula() {
        let mut text = String::new();
        let fields =
            ["a,b", "say \"x\"\nthen", "=1+1", " @SUM(A1)", "\tx", "-2", "plain", ""].map(Field::Text);
        line(&mut text, [Field::Number(-2)].into_iter().chain(fields));
        assert_eq!(
            text,
            "-2,\"a,b\",\"say \"\"x\"\"\nthen\",\"'=1+1\",\"' @SUM(A1)\",\"'\tx\",\"'-2\",\"plain\",\"\"\r\n"
        );
    }
}
