//! All sentences of an answer as one vector, which [`super::model`] weighs.
//!
//! Called by `score` and by the fitting command. Its rule: a feature's sign says which way it may count; the fit keeps to it. The way not taken:
//! trees, which fitted the data sets better and new ones worse.

use super::support::Sentence;

/// How many features there are.
pub const COUNT: usize = NAMES.len();

/// Name and permitted sign of each weight; 0 = either. `worst` is of the worst sentence, else the mean by words or the
/// logarithm of a count. What stands at the end says in which answers it counts: `copied` of copied words, `abstract` told anew, `long` of
/// three sentences or more, `short` of few words, `unasked` without a question.
pub const NAMES: [(&str, i8); 22] = [
    ("soft", 1),
    ("covered", 1),
    ("telling_worst", 1),
    ("near_worst", 1),
    ("rare_together_worst", 1),
    ("rare_pairs_worst_copied", 1),
    ("number_miss", -1),
    ("number_clashes_abstract", -1),
    ("names_unknown_abstract", -1),
    ("rare_unknown_long", 1),
    ("synonyms_abstract", 1),
    ("negates_abstract", 1),
    ("negated_alone_unasked", -1),
    ("hedges_unasked", 1),
    ("persons", -1),
    ("spread_copied", -1),
    ("splices_long", -1),
    ("doubts_skipped_copied", -1),
    ("repeats_short", -1),
    ("question", 0),
    ("context_length", 0),
    ("copy_unasked", 0),
];

/// The last features tell the kind of answer and not whether it is true: they move the score so that one threshold serves all
/// kinds, and the fit leaves them as they are where it takes means of data sets out.
pub const SHAPES: usize = 1;

/// Unknown rare words count up to here: they only temper what `soft` says of long answers, and must not make up for it.
const RARE_MAX: f64 = 10.0;

/// The vector of an answer; `None` when it says nothing. `asked`: whether there was a question.
pub fn vector(sentences: &[Sentence], context_tokens: usize, asked: bool) -> Option<[f64; COUNT]> {
    let words: f64 = sentences.iter().map(|s| s.words).sum();
    if words <= 0.0 {
        return None;
    }
    let mean = |f: fn(&Sentence) -> f64| sentences.iter().map(|s| f(s) * s.words).sum::<f64>() / words;
    let worst = |f: fn(&Sentence) -> f64| sentences.iter().map(f).fold(f64::INFINITY, f64::min);
    let log = |f: fn(&Sentence) -> f64| sentences.iter().map(f).sum::<f64>().ln_1p();
    let runs = mean(|s| s.runs);
    // The same deviation means more in a copy: 1 where the answer is copied word by word, 0 where it is told anew.
    let copied = logistic((runs - 0.6) / 0.1);
    let told_anew = 1.0 - copied;
    let unasked = if asked { 0.0 } else { 1.0 };
    // Steps around two and a half sentences and nine words.
    let lengthy = logistic(((sentences.len() as f64).ln_1p() - 1.1) / 0.15);
    let short = logistic((2.3 - words.ln_1p()) / 0.3);
    Some([
        mean(|s| s.soft),
        mean(|s| s.covered),
        worst(|s| s.telling),
        worst(|s| s.near),
        worst(|s| s.rare_together),
        worst(|s| s.rare_pairs) * copied,
        mean(|s| s.number_miss),
        log(|s| s.number_clashes) * told_anew,
        log(|s| s.unknown_names.len() as f64) * told_anew,
        sentences.iter().map(|s| s.rare_unknown).sum::<f64>().min(RARE_MAX).ln_1p() * lengthy,
        log(|s| s.synonyms) * told_anew,
        flag(sentences.iter().any(|s| s.negates)) * told_anew,
        log(|s| s.negated_alone) * unasked,
        mean(|s| s.hedges) * unasked,
        log(|s| s.persons),
        mean(|s| s.spread) * copied,
        log(|s| s.splices) * lengthy,
        log(|s| s.doubts_skipped) * copied,
        sentences.iter().map(|s| s.repeats).sum::<f64>() / words * short,
        mean(|s| flag(s.question)),
        (context_tokens as f64).ln_1p(),
        logistic((runs - 0.75) / 0.06) * unasked,
    ])
}

fn flag(x: bool) -> f64 {
    f64::from(u8::from(x))
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
