//! How many tokens a text has at most, when no tokenizer is at hand.

/// Prose has four bytes a token and more. Digits, signs and other scripts can have one byte a token, so each of
/// those counts for one, while letters and spaces count for half.
pub(crate) fn tokens_at_most(text: &str) -> u32 {
    let cheap = text.bytes().filter(|byte| byte.is_ascii_alphabetic() || *byte == b' ').count();
    let dear = text.len() - cheap;
    u32::try_from(cheap / 2 + dear + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::tokens_at_most;

    #[test]
    fn letters_count_for_half_and_the_rest_for_one() {
        assert_eq!(tokens_at_most(""), 1);
        assert_eq!(tokens_at_most("a word"), 4);
        assert_eq!(tokens_at_most("1234"), 5);
        assert_eq!(tokens_at_most("é"), 3);
    }
}
