//! What of a text is prose, and whether it asks for a language.
//!
//! Called by the check. Its rule: code, links, addresses and quotations in fences have no language; what is left is bounded.

use aho_corasick::AhoCorasick;
use std::sync::LazyLock;

/// Bytes of a text that are looked at.
const BYTES_MAX: usize = 8 << 10;

/// Words that name a language or ask for a translation; lower case.
const NAMES: &[&str] = &[
    "translat",
    "in english",
    "in german",
    "in french",
    "in spanish",
    "in portuguese",
    "in italian",
    "in dutch",
    "in japanese",
    "in chinese",
    "in korean",
    "in russian",
    "in arabic",
    "in hindi",
    "in polish",
    "in turkish",
    "to english",
    "to german",
    "to french",
    "to spanish",
    "to portuguese",
    "to italian",
    "to dutch",
    "to japanese",
    "to chinese",
    "to korean",
    "to russian",
    "to arabic",
    "into english",
    "into german",
    "into french",
    "into spanish",
    "into italian",
    "into japanese",
    "into chinese",
    "en anglais",
    "en français",
    "en allemand",
    "en espagnol",
    "traduis",
    "traduire",
    "traduction",
    "auf deutsch",
    "auf englisch",
    "auf französisch",
    "auf spanisch",
    "ins englische",
    "ins deutsche",
    "ins französische",
    "übersetz",
    "en inglés",
    "en español",
    "en francés",
    "al inglés",
    "al español",
    "traduc",
    "traduz",
    "em inglês",
    "em português",
    "para inglês",
    "para o inglês",
    "in inglese",
    "in italiano",
    "traduci",
    "in het engels",
    "in het nederlands",
    "vertaal",
    "переве",
    "по-английски",
    "на английск",
    "на русск",
    "英語で",
    "日本語で",
    "日本語に",
    "英語に",
    "翻訳",
    "訳して",
    "翻译",
    "翻譯",
    "用英语",
    "用中文",
    "用英文",
    "영어로",
    "한국어로",
    "번역",
    "अनुवाद",
    "terjemah",
    "çevir",
    "แปล",
];

static ASKS: LazyLock<AhoCorasick> = LazyLock::new(|| AhoCorasick::new(NAMES).expect("fixed words compile"));

/// Whether a text names a language to answer in, or asks for a translation.
pub(super) fn names_a_language(text: &str) -> bool {
    ASKS.is_match(&text[..text.floor_char_boundary(BYTES_MAX)].to_lowercase())
}

/// The prose of a text: without code in fences or back-ticks, links, addresses and words with signs in them.
pub(super) fn only(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(BYTES_MAX)];
    let mut prose = String::with_capacity(text.len());
    let mut code = false;
    for line in text.split('\n') {
        if line.trim_start().starts_with("```") {
            code = !code;
            continue;
        }
        if code {
            continue;
        }
        for (n, part) in line.split('`').enumerate() {
            // Between two back-ticks.
            if n % 2 == 1 {
                continue;
            }
            if !part.bytes().any(|b| IS_SIGN[usize::from(b)]) && !part.contains("www.") {
                // All of it are words.
                prose.push_str(part);
                prose.push(' ');
                continue;
            }
            for word in part.split(' ').filter(|word| is_word(word)) {
                prose.push_str(word);
                prose.push(' ');
            }
        }
    }
    prose
}

/// Bytes of which a word that is none has one, unless it begins with `www.`.
const IS_SIGN: [bool; 256] = {
    let mut table = [false; 256];
    let mut signs: &[u8] = b":@_\\{}=<";
    while let [sign, rest @ ..] = signs {
        table[*sign as usize] = true;
        signs = rest;
    }
    table
};

fn is_word(word: &str) -> bool {
    !(word.contains("://")
        || word.contains('@')
        || word.starts_with("www.")
        || word.contains(['_', '\\', '{', '}', '=', '<']))
}
