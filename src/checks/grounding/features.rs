//! All sentences of an answer as one vector, which [`super::model`] weighs.
//!
//! Called by `score` and by the fitting command. Its rule: a feature's sign says which way it may count; the fit keeps to it. The way not taken:
//! trees, which fitted the data sets better and new ones worse.

use super::support::Sentence;

/// How many features there are.
pub const COUNT: usize = NAMES.len();

/// Name and permitted sign of each weight; 0 = either. `worst` is of the worst sentence, else the mean by words or the
/// logarithm of a count; `copied` counts in answers of copied words only, `abstract` in those told anew.
pub const NAMES: [(&str, i8); 19] = [
    ("soft", 1),
    ("covered", 1),
    ("telling_worst", 1),
    ("near_worst", 1),
    ("rare_together_worst", 1),
    ("number_miss", -1),
    ("number_miss_abstract", -1),
    ("names_unknown_abstract", -1),
    ("synonyms_abstract", 1),
    ("opposites_abstract", -1),
    ("negates_abstract", -1),
    ("quantifiers", -1),
    ("persons", -1),
    ("spread_copied", -1),
    ("spread_close_unasked", -1),
    ("cohesion_copied", 1),
    ("question", 0),
    ("context_length", 0),
    ("copied", 0),
];

/// The vector of an answer; `None` when it says nothing. `asked`: whether there was a question.
pub fn vector(sentences: &[Sentence], context_tokens: usize, asked: bool) -> Option<[f64; COUNT]> {
    let words: f64 = sentences.iter().map(|s| s.words).sum();
    if words <= 0.0 {
        return None;
    }
    let mean = |f: fn(&Sentence) -> f64| sentences.iter().map(|s| f(s) * s.words).sum::<f64>() / words;
    let worst = |f: fn(&Sentence) -> f64| sentences.iter().map(f).fold(f64::INFINITY, f64::min);
    let log = |f: fn(&Sentence) -> f64| sentences.iter().map(f).sum::<f64>().ln_1p();
    // The same deviation means more in a copy: 1 where the answer is copied word by word, 0 where it is told anew.
    let copied = logistic((mean(|s| s.runs) - 0.6) / 0.1);
    let covered = mean(|s| s.covered);
    let close = logistic((covered - 0.9) / 0.02);
    let number_miss = mean(|s| s.number_miss);
    let spread = mean(|s| s.spread);
    Some([
        mean(|s| s.soft),
        covered,
        worst(|s| s.telling),
        worst(|s| s.near),
        worst(|s| s.rare_together),
        number_miss,
        number_miss * (1.0 - copied),
        log(|s| s.unknown_names.len() as f64) * (1.0 - copied),
        log(|s| s.synonyms) * (1.0 - copied),
        log(|s| s.opposites.len() as f64) * (1.0 - close),
        log(|s| s.negates) * (1.0 - close),
        log(|s| s.quantifiers),
        log(|s| s.persons),
        spread * copied,
        if asked { 0.0 } else { spread * close },
        mean(|s| s.cohesion) * copied,
        mean(|s| f64::from(u8::from(s.question))),
        (context_tokens as f64).ln_1p(),
        copied,
    ])
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
