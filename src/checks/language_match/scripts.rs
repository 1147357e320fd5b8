//! Scripts: what tells most languages of the world apart at a glance.
//!
//! Called by the check. Its rule: a text is in the script of most of its letters; two texts are apart when neither has a real share
//! of the other's script.

/// Scripts that are counted, with the language that each belongs to alone, where it does.
const SCRIPTS: [(&str, Option<&str>); 14] = [
    ("latin", None),
    ("cyrillic", None),
    ("greek", Some("el")),
    ("arabic", None),
    ("hebrew", None),
    ("devanagari", None),
    ("hangul", Some("ko")),
    ("kana", Some("ja")),
    ("han", Some("zh")),
    ("thai", Some("th")),
    ("armenian", Some("hy")),
    ("georgian", Some("ka")),
    ("ethiopic", None),
    ("indic", None),
];

/// Other scripts of India and its neighbours are told apart by the block.
fn index(c: char) -> Option<usize> {
    Some(match c {
        'a'..='z' | 'A'..='Z' | '\u{00aa}'..='\u{024f}' | '\u{1e00}'..='\u{1eff}' => 0,
        '\u{0400}'..='\u{052f}' => 1,
        '\u{0370}'..='\u{03ff}' | '\u{1f00}'..='\u{1fff}' => 2,
        '\u{0600}'..='\u{06ff}' | '\u{0750}'..='\u{077f}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' => 3,
        '\u{0590}'..='\u{05ff}' => 4,
        '\u{0900}'..='\u{097f}' => 5,
        '\u{ac00}'..='\u{d7af}' | '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' => 6,
        '\u{3040}'..='\u{30ff}' => 7,
        '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}' => 8,
        '\u{0e00}'..='\u{0e7f}' => 9,
        '\u{0530}'..='\u{058f}' => 10,
        '\u{10a0}'..='\u{10ff}' => 11,
        '\u{1200}'..='\u{139f}' => 12,
        '\u{0980}'..='\u{0dff}' | '\u{0e80}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' => 13,
        _ => return None,
    })
}

/// Characters read of a text at most.
const CHARACTERS_MAX: usize = 2_000;

/// The scripts of a text.
pub(super) struct Script {
    counts: [usize; SCRIPTS.len()],
    /// Of the mixed last group: the commonest block of 128 characters.
    block: u32,
    main: usize,
}

impl Script {
    /// The scripts of a text; `None` when it has no letters.
    pub fn of(text: &str) -> Option<Self> {
        let mut counts = [0; SCRIPTS.len()];
        let mut block = 0;
        let head = &text.as_bytes()[..text.len().min(CHARACTERS_MAX)];
        let plain = if head.is_ascii() { head.len() } else { head.iter().take_while(|b| b.is_ascii()).count() };
        // As many as a byte can count, so that many are counted at once.
        let letters = |some: &[u8]| some.iter().map(|b| u8::from(b.is_ascii_alphabetic())).sum::<u8>();
        counts[0] = head[..plain].chunks(255).map(|some| usize::from(letters(some))).sum();
        for c in text[plain..].chars().take(CHARACTERS_MAX - plain) {
            if let Some(n) = index(c) {
                counts[n] += 1;
                if n == 13 {
                    block = u32::from(c) / 128;
                }
            }
        }
        // Japanese has more Han than kana in it, Chinese has no kana.
        if counts[7] * 10 >= counts[8] {
            counts[7] += std::mem::take(&mut counts[8]);
        }
        let (main, most) = counts.iter().enumerate().max_by_key(|(n, count)| (**count, std::cmp::Reverse(*n)))?;
        (*most > 0).then_some(Self { counts, block, main })
    }

    /// Whether there are letters enough to say anything; signs that are whole words count for more.
    pub fn has(&self, letters: usize) -> bool {
        let words = self.counts[6] + self.counts[7] + self.counts[8];
        let all: usize = self.counts.iter().sum();
        all + words * 3 >= letters
    }

    /// Whether two texts share no script.
    pub fn apart(&self, other: &Self) -> bool {
        let share = |script: &Self, n: usize| {
            let all: usize = script.counts.iter().sum();
            script.counts[n] * 100 / all.max(1)
        };
        if self.main == 13 && other.main == 13 {
            return self.block != other.block;
        }
        self.main != other.main && share(other, self.main) < 25 && share(self, other.main) < 25
    }

    /// The script's name.
    pub fn name(&self) -> &'static str {
        SCRIPTS[self.main].0
    }

    /// The language, where only one is written so.
    pub fn language(&self) -> Option<&'static str> {
        SCRIPTS[self.main].1
    }
}
