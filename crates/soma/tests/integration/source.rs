//! Rust source as the rules of `tidy` see it: code without comments and literals, the literals apart, and without
//! what only tests have.

/// One file.
pub struct Source {
    /// Its path from the root of the repository.
    pub name: String,
    pub text: String,
    /// The text line for line, in which comments, the insides of literals and tests are blank.
    pub code: String,
    /// Line and text of each string literal of the code.
    pub literals: Vec<(usize, String)>,
}

/// Whether all of a file is a test, or measures something.
pub fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.contains("/examples/")
}

impl Source {
    pub fn read(name: &str, text: &str) -> Self {
        let mut reader = Reader { rest: text, line: 1, code: String::new(), literals: Vec::new() };
        while !reader.rest.is_empty() {
            reader.step();
        }
        let Reader { mut code, mut literals, .. } = reader;
        while let Some((start, end)) = test_item(&code) {
            let first = code[..start].matches('\n').count() + 1;
            let last = first + code[start..end].matches('\n').count();
            literals.retain(|(line, _)| !(first..=last).contains(line));
            let blank: String = code[start..end].chars().filter(|c| *c == '\n').collect();
            code.replace_range(start..end, &blank);
        }
        Self { name: name.to_owned(), text: text.to_owned(), code, literals }
    }

    /// Lines of code with their numbers.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// A fault for each line of code that has one of these.
    pub fn lines_with(&self, marks: &[&str], what: &str) -> Vec<String> {
        let hit = |line: &str| marks.iter().any(|mark| line.contains(mark));
        let lines = self.code_lines().filter(|(_, line)| hit(line));
        lines.map(|(number, line)| format!("{}:{number} {what}: {}", self.name, line.trim())).collect()
    }

    /// What the file says of itself at its top.
    pub fn header(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect()
    }
}

/// Where an item that only tests have begins and ends.
fn test_item(code: &str) -> Option<(usize, usize)> {
    let start = code.find("#[cfg(test)]")?;
    let open = start + code[start..].find(['{', ';'])?;
    if code[open..].starts_with(';') {
        return Some((start, open + 1));
    }
    let mut depth = 0;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((start, open + at + 1));
        }
    }
    None
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    code: String,
    literals: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            return self.blank(rest.find('\n').unwrap_or(rest.len()));
        }
        if rest.starts_with("/*") {
            return self.blank(rest.find("*/").map_or(rest.len(), |at| at + 2));
        }
        let in_word = self.code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !in_word && let Some(length) = raw_literal(rest) {
            return self.literal(length);
        }
        if rest.starts_with('"') {
            return self.literal(quoted(rest));
        }
        // A character, not a lifetime.
        if let Some(after) = rest.strip_prefix('\'') {
            let mut characters = after.chars();
            let first = characters.next();
            if first == Some('\\') {
                return self.blank(after[2..].find('\'').map_or(rest.len(), |at| at + 4));
            }
            if characters.next() == Some('\'') {
                return self.blank(2 + first.map_or(0, char::len_utf8));
            }
        }
        let character = rest.chars().next().unwrap_or('\n');
        self.line += usize::from(character == '\n');
        self.code.push(character);
        self.rest = &rest[character.len_utf8()..];
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Takes what is no code; only its line ends stay.
    fn blank(&mut self, length: usize) {
        let taken = self.take(length);
        let lines = taken.matches('\n').count();
        self.line += lines;
        self.code.extend(std::iter::repeat_n('\n', lines));
    }

    fn literal(&mut self, length: usize) {
        let line = self.line;
        let text = self.rest[..length].trim_matches(|c| matches!(c, '"' | '#' | 'r' | 'b'));
        self.literals.push((line, text.to_owned()));
        self.code.push_str("\"\"");
        self.blank(length);
    }
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_literal(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = text.len() - after.len() + hashes;
    let inner = text[open..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(open + 1 + inner.find(&close)? + close.len())
}

/// The length of `"…"`.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    let text = r##"//! "a" unwrap
fn f<'a>(c: &'a str) -> char { /* b
*/ g("x \" y", r#"z "q" "#, '"', '\''); 'c' }
#[cfg(test)]
mod tests {
    fn t() { panic!("no") }
}
fn h() {}
"##;
    let source = Source::read("a.rs", text);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert_eq!(
        source.code.split_whitespace().collect::<Vec<_>>().join(" "),
        "fn f<'a>(c: &'a str) -> char { g(\"\", \"\", , ); } fn h() {}"
    );
    assert_eq!(source.literals, [(3, "x \\\" y".to_owned()), (3, "z \"q\" ".to_owned())]);
}
