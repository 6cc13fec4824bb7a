//! JSON in the one form of RFC 8785 (JCS): what is hashed or signed, and by anyone who checks it made anew.
//!
//! Members are sorted by their names' UTF-16 units, nothing stands between tokens, numbers are written as ECMAScript
//! writes them. One thing differs: a whole number that fits 64 bits keeps all its digits, also beyond 2^53, so that
//! two different ones never look the same.

use serde_json::{Number, Value};

/// The canonical text of `value`.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

/// Adds the canonical text of a string, in quotes.
pub fn write_string(into: &mut String, text: &str) {
    into.push('"');
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x09 => "\\t",
            0x0A => "\\n",
            0x0C => "\\f",
            0x0D => "\\r",
            0x00..0x20 => "",
            _ => continue,
        };
        into.push_str(&text[written..at]);
        written = at + 1;
        if short.is_empty() {
            into.push_str(&format!("\\u{byte:04x}"));
        } else {
            into.push_str(short);
        }
    }
    into.push_str(&text[written..]);
    into.push('"');
}

fn write(into: &mut String, value: &Value) {
    match value {
        Value::Null => into.push_str("null"),
        Value::Bool(true) => into.push_str("true"),
        Value::Bool(false) => into.push_str("false"),
        Value::Number(number) => write_number(into, number),
        Value::String(text) => write_string(into, text),
        Value::Array(items) => {
            into.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                write(into, item);
            }
            into.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            into.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                write_string(into, name);
                into.push(':');
                write(into, value);
            }
            into.push('}');
        }
    }
}

/// As ECMAScript's Number::toString: the fewest digits that give the number back, an exponent only outside
/// 1e-6 to 1e21.
fn write_number(into: &mut String, number: &Number) {
    let Some(number) = number.as_f64().filter(|_| number.is_f64()) else {
        into.push_str(&number.to_string());
        return;
    };
    let size = number.abs();
    if size == 0.0 {
        into.push('0');
    } else if (1e-6..1e21).contains(&size) {
        into.push_str(&number.to_string());
    } else {
        let text = format!("{number:e}");
        into.push_str(&if size >= 1e21 { text.replace('e', "e+") } else { text });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::canonical;

    #[test]
    fn the_form_is_that_of_the_standard() {
        // RFC 8785, 3.2.2 and 3.2.3.
        let value = json!({
            "numbers": [333_333_333.333_333_3, 1e30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001],
            "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/",
            "literals": [null, true, false],
        });
        assert_eq!(
            canonical(&value),
            "{\"literals\":[null,true,false],\
              \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
              \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        let names = json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7 });
        assert_eq!(
            canonical(&names),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn numbers_are_written_as_a_browser_writes_them_and_whole_ones_in_full() {
        for (number, text) in [
            (json!(-0.0), "0"),
            (json!(1.0), "1"),
            (json!(1e20), "100000000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(-1.5e-7), "-1.5e-7"),
            (json!(0.000_001), "0.000001"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
        ] {
            assert_eq!(canonical(&number), text);
        }
    }
}
