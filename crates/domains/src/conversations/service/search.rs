//! Searching what was said.

use contracts::{Caller, policy::Resource};
use platform::http::Page;

use super::Error;
use crate::{
    App, authority,
    conversations::{
        api::{Found, SearchQuery},
        store::search::{self, Hit},
    },
};

/// Longest text to search for, in characters.
const QUERY_CHARS_MAX: usize = 200;
/// More words are left out.
const WORDS_MAX: usize = 16;
/// What is shown around the first word that was found, in characters.
const SNIPPET_CHARS: usize = 160;
/// How much of that stands before the word.
const LEAD_CHARS: usize = 40;

pub(in super::super) async fn search(
    app: &App,
    caller: &Caller,
    query: SearchQuery,
    limit: u32,
) -> Result<Page<Found>, Error> {
    authority::require(app, caller, "conversation:search", Resource::any("conversation")).await?;
    let text = query.q.unwrap_or_default();
    let words = words(&text);
    if words.is_empty() || text.chars().count() > QUERY_CHARS_MAX {
        return Err(Error::BadQuery(QUERY_CHARS_MAX));
    }
    let before = match query.cursor.as_deref() {
        None | Some("") => i64::MAX,
        Some(cursor) => cursor.parse().map_err(|_| Error::BadCursor("cursor"))?,
    };
    let wanted = search::Wanted {
        tenant: caller.tenant,
        words: &words,
        before,
        limit: i64::from(limit) + 1,
        without: &authority::denied_agents(app, caller, "conversation:search", "conversation").await,
    };
    let mut hits = search::find(app.database.read(), &wanted).await?;
    let items_max = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = hits.len() > items_max;
    hits.truncate(items_max);
    let next_cursor = if more { hits.last().map(|hit| hit.document.to_string()) } else { None };
    let items = hits.into_iter().map(|hit| found(hit, &words)).collect();
    Ok(Page { items, next_cursor })
}

/// The words of a text, whatever stands between them: what the index takes for words too.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.take(WORDS_MAX).map(str::to_owned).collect()
}

fn found(hit: Hit, words: &[String]) -> Found {
    Found {
        conversation_id: hit.conversation,
        title: hit.title,
        message_id: hit.message,
        snippet: snippet(&hit.said, words),
        created_at: hit.at,
    }
}

/// The place in a text where one of the words stands first, on one line. The index knows more spellings of a word than
/// this does; where none is found, it is the text's beginning.
fn snippet(text: &str, words: &[String]) -> String {
    let lower = |text: &str| text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect::<Vec<_>>();
    let (line, words): (String, Vec<Vec<char>>) = (
        text.split_whitespace().collect::<Vec<_>>().join(" "),
        words.iter().map(|word| lower(word)).collect(),
    );
    let haystack = lower(&line);
    let place = |word: &Vec<char>| haystack.windows(word.len()).position(|window| window == word.as_slice());
    let first = words.iter().filter_map(place).min().unwrap_or(0);
    let start = first.saturating_sub(LEAD_CHARS);
    let shown: String = line.chars().skip(start).take(SNIPPET_CHARS).collect();
    let before = if start > 0 { "…" } else { "" };
    let after = if haystack.len() > start + SNIPPET_CHARS { "…" } else { "" };
    format!("{before}{}{after}", shown.trim())
}

#[cfg(test)]
mod tests {
    use super::{snippet, words};

    #[test]
    fn words_are_what_letters_and_digits_make_whatever_the_syntax_of_the_index() {
        assert_eq!(
            words("say \"hi\" OR (x* NEAR tenant:y)"),
            ["say", "hi", "OR", "x", "NEAR", "tenant", "y"]
        );
        assert_eq!(words(" -- \" * ^ "), [] as [&str; 0]);
        assert_eq!(words("größe 東京 7"), ["größe", "東京", "7"]);
        assert_eq!(words(&"a ".repeat(100)).len(), 16);
    }

    #[test]
    fn a_snippet_shows_the_word_and_what_is_around_it() {
        let words = ["Needle".to_owned()];
        assert_eq!(snippet("a\n needle here", &words), "a needle here");
        let long = format!("{} NEEDLE {}", "x".repeat(300), "y".repeat(300));
        let shown = snippet(&long, &words);
        assert!(shown.starts_with("…xx") && shown.contains("NEEDLE") && shown.ends_with("yy…"), "{shown}");
        assert!(shown.chars().count() <= 162);
        assert_eq!(snippet("İstanbul needle", &words), "İstanbul needle");
        assert!(snippet(&"z".repeat(500), &words).starts_with("zz"));
        assert_eq!(snippet("", &words), "");
    }
}
