//! Text that a model or a tool wrote, made safe for a terminal and cut to fit. Nothing here prints.

/// The text without anything that a terminal acts on, but for newlines and tabs.
///
/// Control characters are shown as their pictures (`␛` for escape), the C1 set and the ones that turn writing
/// around as `�`. `\r\n` becomes `\n`.
pub fn neutral(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => safe.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\u{0}'..='\u{1f}' => safe.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7f}' => safe.push('\u{2421}'),
            '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}

/// One line of at most `width` characters; `…` at its end says that it was cut.
pub fn one_line(text: &str, width: usize) -> String {
    let flat = neutral(text).replace(['\n', '\t'], " ");
    let flat = flat.trim();
    if flat.chars().count() <= width {
        return flat.to_owned();
    }
    let mut cut: String = flat.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The first `count` lines, each cut to `width`, and how many more there are.
pub fn first_lines(text: &str, count: usize, width: usize) -> Vec<String> {
    let mut lines: Vec<String> =
        text.trim_end().lines().take(count).map(|line| one_line(line, width)).collect();
    let more = text.trim_end().lines().count().saturating_sub(count);
    if more > 0 {
        lines.push(format!("… {more} more lines"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_only_shown() {
        for (raw, safe) in [
            ("plain ünïcödé 文字 🙂", "plain ünïcödé 文字 🙂"),
            ("a\tb\nc", "a\tb\nc"),
            ("dos\r\nline", "dos\nline"),
            ("over\rwritten", "over␍written"),
            ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
            ("\u{9b}31m\u{7f}\u{0}", "\u{fffd}31m␡␀"),
            ("user\u{202e}txt.exe\u{2066}", "user\u{fffd}txt.exe\u{fffd}"),
        ] {
            assert_eq!(neutral(raw), safe, "{raw:?}");
        }
    }

    #[test]
    fn no_piece_of_a_stream_lets_a_control_character_through() {
        for code in 0..0x300 {
            let Some(character) = char::from_u32(code) else { continue };
            let shown = neutral(&character.to_string());
            let harmless = |shown: char| !shown.is_control() || matches!(shown, '\n' | '\t');
            assert!(shown.chars().all(harmless), "{code:#x} came through as {shown:?}");
        }
    }

    #[test]
    fn lines_are_cut_to_the_width_and_say_so() {
        assert_eq!(one_line("  one\ntwo\tthree ", 20), "one two three");
        assert_eq!(one_line("abcdefgh", 8), "abcdefgh");
        assert_eq!(one_line("abcdefghi", 8), "abcdefg…");
        assert_eq!(first_lines("a\nb\nc\nd\n", 2, 80), ["a", "b", "… 2 more lines"]);
        assert_eq!(first_lines("a\n", 2, 80), ["a"]);
        assert!(first_lines("", 2, 80).is_empty());
    }
}
