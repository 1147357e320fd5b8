//! A text as numbers: how often each kind of cue is there, which cues stand together, and what was hidden.
//!
//! Called by the check and by the command that fits the model. Its rule: each feature has a name and says something about any text;
//! none knows a data set. Length is left out on purpose: attacks in the labelled data are long, which in the field they need not be.

use super::cues::{Cue, KINDS, find};
use super::{decode, fold};
use crate::checks::folding::Folded;
use crate::checks::masks::blocks;
use serde_json::{Value, json};
use std::collections::HashSet;

/// How many features a text has.
pub const COUNT: usize = 35;

/// Names of the features, in order: the counts of cues by kind, logarithmic, then what is made of them.
pub const NAMES: [&str; COUNT] = names();

/// Those that are no counts of cues.
const MADE: [&str; COUNT - KINDS.len()] = [
    "override_orders",
    "tell_secret",
    "tell_prompt",
    "persona_unbound",
    "secret_encoding",
    "force_quote",
    "reply_task",
    "hidden_cues",
    "hidden_text",
    "disguise",
    "capitals",
    "line_task",
    "line_task_reply",
    "line_ask",
    "kinds",
    "density",
    "addressed",
];

const fn names() -> [&'static str; COUNT] {
    let mut all = [""; COUNT];
    let mut at = 0;
    while at < COUNT {
        all[at] = if at < KINDS.len() { KINDS[at] } else { MADE[at - KINDS.len()] };
        at += 1;
    }
    all
}

/// Whose text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    User,
    Document,
}

/// Features of what a user wrote.
#[must_use]
pub fn direct(text: &str) -> [f64; COUNT] {
    read(text, Side::User).0
}

/// Features of a document.
#[must_use]
pub fn indirect(text: &str) -> [f64; COUNT] {
    read(text, Side::Document).0
}

/// How near cues of two kinds must stand to belong together, in bytes.
const TOGETHER: usize = 60;

/// Features and evidence.
pub(super) fn read(text: &str, side: Side) -> ([f64; COUNT], Vec<Value>) {
    let folded = fold(text);
    let cues = find(&folded.text);
    let mut values = [0.0; COUNT];
    let mut counts = [0u32; KINDS.len()];
    for cue in &cues {
        counts[cue.kind] += 1;
    }
    for (value, count) in values.iter_mut().zip(counts) {
        *value = f64::from(count.min(20)).ln_1p();
    }
    let near = |a: &str, b: &str| f64::from(together(&cues, kind(a), kind(b)).min(4)).ln_1p();
    values[18] = near("override", "orders");
    values[19] = near("tell", "secret");
    values[20] = near("tell", "prompt");
    values[21] = near("persona", "unbound");
    values[22] = near("secret", "encoding");
    values[23] = flag(quoted_after(&folded.text, &cues, kind("force")));
    values[24] = near("task", "reply") + near("reply", "task");
    let (hidden, readable) = hidden(text, &folded, (side, &cues));
    values[25] = hidden;
    values[26] = flag(readable);
    values[27] = f64::from(u32::try_from(folded.invisible.min(10) + folded.disguised.min(10)).unwrap_or(20)).ln_1p();
    values[28] = flag(shouts(text));
    let lines = line_starts(&folded.text, &cues);
    values[29..32].copy_from_slice(&lines);
    values[32] = f64::from(u32::try_from(counts.iter().filter(|c| **c > 0).count()).unwrap_or(0)) / 10.0;
    let words = words(folded.text.as_bytes()).max(8);
    let telling: u32 = counts[..15].iter().sum();
    values[33] = (f64::from(telling) / words as f64).min(0.5);
    values[34] = flag(side == Side::User && addresses(&folded.text));
    let evidence = cues.iter().filter(|cue| cue.kind < 15 || KINDS[cue.kind] == "delimiter").take(super::EVIDENCE_MAX);
    let evidence = evidence
        .map(|cue| json!({"cue": KINDS[cue.kind], "at": [folded.origin(cue.start), folded.origin(cue.end)]}))
        .collect();
    (values, evidence)
}

fn kind(name: &str) -> usize {
    KINDS.iter().position(|k| *k == name).expect("a kind of cue")
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// How many cues of kind `first` have one of kind `second` close by, on either side.
fn together(cues: &[Cue], first: usize, second: usize) -> u32 {
    let mut count = 0;
    for (n, cue) in cues.iter().enumerate().filter(|(_, cue)| cue.kind == first) {
        let behind = cues[n + 1..].iter().take_while(|c| c.start < cue.end + TOGETHER).any(|c| c.kind == second);
        let ahead = cues[..n].iter().rev().take_while(|c| c.end + TOGETHER > cue.start).any(|c| c.kind == second);
        count += u32::from(behind || ahead);
    }
    count
}

/// Whether a quotation follows a cue of a kind.
fn quoted_after(text: &str, cues: &[Cue], kind: usize) -> bool {
    cues.iter().filter(|cue| cue.kind == kind).any(|cue| {
        let rest = &text[text.floor_char_boundary(cue.end.saturating_sub(1))..];
        rest[..rest.floor_char_boundary(24)].contains(['"', '“', '\'', '«', '「'])
    })
}

/// Cues behind an encoding, and whether there was readable text behind one.
fn hidden(text: &str, folded: &Folded, (side, cues): (Side, &[Cue])) -> (f64, bool) {
    let plain = cues.iter().filter(|cue| cue.kind < STRONG).count();
    let decoded = decode::hidden(text);
    let mut found = if decoded.is_empty() { 0 } else { strong(&fold(&decoded).text) };
    if side == Side::User && folded.text.len() <= 4096 {
        if let Some(read) = decode::leet(&folded.text) {
            found += strong(&read).saturating_sub(plain);
        }
        // Rotated text has hardly a word of any language; one cue of it is enough.
        found += if plain == 0 { strong(&decode::rot13(&folded.text)) } else { 0 };
    }
    (f64::from(u32::try_from(found.min(6)).unwrap_or(6)).ln_1p(), !decoded.is_empty())
}

/// Whether a text speaks to somebody, in its first 4 KiB. Who writes *about* rules, passwords and what to ignore mostly does not.
fn addresses(text: &str) -> bool {
    // In order, and folded as the text is.
    const WORDS: &[&str] = &[
        "anda", "dich", "dir", "du", "ihnen", "ihr", "ihre", "ihrem", "ihren", "ihrer", "ihres", "ikaw", "iyong", "je",
        "jij", "jouw", "kamu", "sen", "senin", "seu", "sie", "siz", "su", "sua", "ta", "te", "tes", "teu", "toi",
        "ton", "tu", "tus", "usted", "voce", "vos", "votre", "vous", "you", "your", "yours", "yourself", "вас", "вы",
        "твои", "твой", "тебе", "тебя", "ты",
    ];
    const BEGINNINGS: &[&str] = &["dein", "ваш"];
    const UNSPACED: &[&str] = &["你", "您", "あなた", "君", "당신", "너는", "너의", "네가", "तुम", "आप", "คุณ"];
    let head = &text[..text.floor_char_boundary(4096)];
    let speaks = |word: &str| WORDS.binary_search(&word).is_ok() || BEGINNINGS.iter().any(|b| word.starts_with(b));
    head.split(|c: char| !c.is_alphanumeric()).any(speaks)
        || (!head.is_ascii() && UNSPACED.iter().any(|word| head.contains(word)))
}

/// Kinds below this carry an attack.
const STRONG: usize = 11;

/// Cues of the kinds that carry an attack.
fn strong(text: &str) -> usize {
    find(text).iter().filter(|cue| cue.kind < STRONG).count()
}

/// How many words, parted by white space of ASCII.
fn words(text: &[u8]) -> usize {
    let (mut count, mut inside) = (0, 0);
    for block in blocks(text) {
        let word = block.mask(|b| u8::from(!matches!(b, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')));
        count += (word & !(word << 1 | inside)).count_ones() as usize;
        inside = word >> 63;
    }
    count
}

/// Whether several whole words are in capitals among words that are not.
fn shouts(text: &str) -> bool {
    let head = &text[..text.floor_char_boundary(2048)];
    // Four words of three letters.
    if head.bytes().filter(u8::is_ascii_uppercase).count() < 12 {
        return false;
    }
    let big = |word: &&str| word.len() >= 3 && word.bytes().all(|b| b.is_ascii_uppercase());
    head.split(|c: char| !c.is_alphanumeric()).filter(big).count() >= 4
}

/// Lines or sentences that begin as an order to an assistant; those that name its answer too; lines that ask something.
/// Only short ones count: an order put into a document stands by itself.
fn line_starts(text: &str, cues: &[Cue]) -> [f64; 3] {
    const LONGEST: usize = 240;
    let (task, ask, reply) = (kind("task"), kind("ask"), kind("reply"));
    let bytes = text.as_bytes();
    let mut found = [0u32; 3];
    for cue in cues.iter().filter(|cue| cue.kind == task || cue.kind == ask) {
        let before = text[..cue.start].trim_end_matches([' ', '>', '*', '-', '"']);
        let before = before.strip_suffix("please").map_or(before, str::trim_end);
        let opens_line = before.is_empty() || before.ends_with('\n');
        let opens = opens_line || before.ends_with(['.', '!', '?', ':']);
        if !opens {
            continue;
        }
        let end = bytes[cue.end..].iter().take(LONGEST).position(|b| matches!(b, b'\n')).map(|n| cue.end + n);
        let end = end.or((bytes.len() - cue.end < LONGEST).then_some(bytes.len()));
        let sentence = bytes[cue.end..].iter().take(LONGEST).position(|b| matches!(b, b'.' | b'?' | b'!' | b'\n'));
        let sentence = sentence.map_or(cue.end, |n| cue.end + n);
        let alone = opens_line && end.is_some();
        if cue.kind == task {
            found[0] += u32::from(alone);
            let behind = &cues[cues.partition_point(|c| c.start < cue.end)..];
            let mut behind = behind.iter().take_while(|c| c.start <= sentence.max(cue.end));
            let about_reply = behind.any(|c| c.kind == reply);
            found[1] += u32::from(about_reply);
        } else {
            found[2] += u32::from(alone);
        }
    }
    found.map(|n| f64::from(n.min(3)).ln_1p())
}

/// Whether the system's instructions keep something secret, and the user's text names it.
pub(super) fn probes(text: &str, system: &str) -> bool {
    const KEEPS: &[&str] = &[
        "reveal",
        "disclose",
        "share",
        "don't tell",
        "do not tell",
        "secret",
        "confidential",
        "private information",
        "verrat",
        "geheim",
        "preisgeb",
        "revel",
        "divulg",
        "confiden",
        "rivel",
        "onthul",
        "раскрыв",
        "секрет",
        "разглаш",
        "明らか",
        "秘密",
        "開示",
        "透露",
        "泄露",
        "保密",
        "공개",
        "비밀",
        "누설",
        "खुलासा",
        "प्रकट",
        "बताए",
        "रहस्य",
        "ungkap",
        "rahasia",
        "ibunyag",
        "lihim",
        "magsiwalat",
        "ifşa",
        "acikla",
        "gizli",
        "paylas",
        "เปิดเผย",
        "ความลับ",
        "บอก",
    ];
    let system = fold(&system[..system.floor_char_boundary(4096)]).text;
    if !KEEPS.iter().any(|word| system.contains(word)) {
        return false;
    }
    let asked = fold(&text[..text.floor_char_boundary(4096)]).text;
    let in_both = find(&asked).iter().any(|cue| KINDS[cue.kind] == "secret")
        && find(&system).iter().any(|cue| KINDS[cue.kind] == "secret");
    in_both || names_what_is_kept(&asked, &system)
}

/// Whether the text asks by name for two or more things that stand in the same instructions, beyond everyday words.
fn names_what_is_kept(asked: &str, system: &str) -> bool {
    const EVERYDAY: &[&str] = &[
        "your",
        "you",
        "that",
        "this",
        "with",
        "from",
        "what",
        "user",
        "about",
        "have",
        "user's",
        "information",
        "should",
        "question",
        "questions",
        "answer",
        "provide",
        "topic",
        "would",
        "could",
        "please",
        "which",
        "there",
        "their",
    ];
    let words = |text: &str| -> HashSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.chars().count() >= 4).map(str::to_owned).collect()
    };
    let kept = words(system);
    let named = words(asked).into_iter().filter(|w| kept.contains(w) && !EVERYDAY.contains(&w.as_str())).count();
    named >= 2
}
