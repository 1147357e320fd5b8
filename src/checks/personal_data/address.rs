//! Postal addresses, as far as rules see them.
//!
//! Called by `find` at a number of up to five digits. Its rule: a number and a street word side by side; names of places are left
//! alone. The way not taken: lists of cities, which find every mention of Paris.

use super::spans::Hit;
use crate::domain::personal::Category;
use regex::Regex;
use std::sync::LazyLock;

/// Street words that come before the name and are not capitalised.
const FOREIGN: &[&str] = &[
    "rue ",
    "avenue ",
    "boulevard ",
    "place ",
    "chemin ",
    "allée ",
    "quai ",
    "calle ",
    "avenida ",
    "plaza ",
    "via ",
    "viale ",
    "piazza ",
    "rua ",
    "travessa ",
];

/// `12 High Street, Apt. 4`, `1600 Pennsylvania Ave NW`, `10 rue de Rivoli`, `5 Calle Mayor`.
static AHEAD: LazyLock<Regex> = LazyLock::new(|| {
    let street = "Street|Str|St|Road|Rd|Avenue|Ave|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Terrace|Place|Pl|\
                  Highway|Hwy|Parkway|Pkwy|Crescent|Close|Crossroad|Crossing|Alley|Circle|Cir|Trail|Way|Row|Walk|Plaza";
    let foreign: Vec<&str> = FOREIGN.iter().map(|word| word.trim_end()).collect();
    let foreign = foreign.join("|");
    let rest = r"(?:,?\s+(?:Apt|Suite|Unit|Flat|Apartment|Floor)\.?\s*#?[A-Za-z0-9]{1,6})?";
    let pattern = format!(
        r"^\d{{1,5}}[a-zA-Z]?,?\s+(?:(?:[\p{{Lu}}\d][\p{{L}}\d'’.-]{{0,20}}\s+){{1,4}}(?:{street})(?-u:\b)\.?|(?:{foreign})\s+(?:\p{{L}}[\p{{L}}'’.-]{{0,20}}\s*){{1,4}}){rest}"
    );
    Regex::new(&pattern).expect("the pattern is fixed")
});

/// `P.O. Box 12`, `Postfach 12`, `Unit 5022 Box 1225`; and streets whose number comes last: `Hauptstraße 12`.
static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
    let ending = "straße|strasse|str\\.|weg|gasse|platz|allee|ufer|damm|ring|straat|laan|gracht|plein|gata|gatan|vägen|vej|gade|veien|vegen|katu|tie|utca";
    let first = "Via|Viale|Piazza|Corso|Calle|Avenida|Rua|Ulica|ul\\.|Rue|Strada";
    let pattern = format!(
        r"(?:(?i:p\.?\s?o\.?\s?box|postfach|apartado|bo[iî]te postale|postbus)|Unit \d{{1,5}} Box|\p{{Lu}}[\p{{L}}-]{{1,24}}(?:{ending})|(?:{first})(?:\s+\p{{L}}[\p{{L}}'’.-]{{0,20}}){{1,4}}),?\s+(?:[Nn]r?\.?\s*)?$"
    );
    Regex::new(&pattern).expect("the pattern is fixed")
});

/// The address around the number `start..end`.
pub(super) fn at(text: &str, start: usize, end: usize) -> Option<Hit> {
    const AHEAD_MAX: usize = 120;
    const BEHIND_MAX: usize = 64;
    let hit = |start, end| Hit { category: Category::Address, kind: "address", start, end };
    // The next word tells nearly always that this is no address; the pattern is slow.
    let next = text[end..text.floor_char_boundary(end + 16)].trim_start_matches([' ', ',']);
    let apart = text[end..].starts_with([' ', ',']);
    if apart && (next.starts_with(char::is_uppercase) || FOREIGN.iter().any(|word| next.starts_with(word))) {
        let window = &text[start..text.floor_char_boundary(start + AHEAD_MAX)];
        if let Some(found) = AHEAD.find(window) {
            return Some(hit(start, start + window[..found.end()].trim_end().len()));
        }
    }
    let from = text.ceil_char_boundary(start.saturating_sub(BEHIND_MAX));
    let last = text[from..start].trim_end().rsplit([' ', '\n']).next().unwrap_or_default();
    let likely = last.starts_with(char::is_uppercase) || ["box", "bus", "nr", "nr."].contains(&last);
    if !likely || !text[..start].ends_with([' ', '.']) {
        return None;
    }
    BEHIND.find(&text[from..start]).map(|found| hit(from + found.start(), end))
}
