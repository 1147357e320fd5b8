//! Numbers: cards, national numbers, telephones.
//!
//! Called by `find` at the first digit of a run. Its rule: a number counts when its form and its check digits fit, or its form is
//! usual and a word beside it says what it is; nine digits alone are nothing. The way not taken: `\d{9,16}`, which takes
//! every order number for somebody's.

use super::checksums::{ahv, bsn, cpf, is_day, luhn, mod_11_10, nir, pesel, rrn, verhoeff};
use super::network;
use super::spans::{Hit, after, before, near};
use crate::domain::personal::Category;

/// Longest run of digits and separators that is looked at as one, in groups of digits.
const GROUPS_MAX: usize = 12;

/// Digits between separators.
#[derive(Clone, Copy, Default)]
struct Group {
    start: usize,
    end: usize,
}

/// A run of groups of digits.
struct Run<'a> {
    text: &'a str,
    groups: [Group; GROUPS_MAX],
    count: usize,
}

/// A national number without letters.
struct Scheme {
    kind: &'static str,
    /// How many digits.
    digits: usize,
    /// The way in which it is usually written: lengths of groups and what is between them.
    form: &'static [usize],
    separators: &'static [u8],
    check: fn(&[u8]) -> bool,
    /// Words that say what it is.
    words: &'static [&'static str],
    /// Whether the usual form with good check digits is enough.
    by_form: bool,
    /// Whether good check digits are enough.
    by_check: bool,
}

/// Social security numbers of the USA: no area 000, 666 or 9xx, no group 00, no serial 0000.
fn ssn(d: &[u8]) -> bool {
    let zero = |part: &[u8]| part.iter().all(|d| *d == 0);
    d.len() == 9 && !zero(&d[..3]) && d[..3] != [6, 6, 6] && d[0] != 9 && !zero(&d[3..5]) && !zero(&d[5..])
}

fn itin(d: &[u8]) -> bool {
    let group = if d.len() == 9 { d[3] * 10 + d[4] } else { 0 };
    d.first() == Some(&9) && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

fn aadhaar(d: &[u8]) -> bool {
    d.len() == 12 && d[0] >= 2 && verhoeff(d)
}

fn personnummer(d: &[u8]) -> bool {
    d.len() == 10 && is_day(&d[2..6]) && luhn(d)
}

const SCHEMES: &[Scheme] = &[
    Scheme {
        kind: "us_ssn",
        digits: 9,
        form: &[3, 2, 4],
        separators: b"-",
        check: ssn,
        words: &["ssn", "social security", "social insurance"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "us_itin",
        digits: 9,
        form: &[3, 2, 4],
        separators: b"-",
        check: itin,
        words: &["itin", "taxpayer"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "ca_sin",
        digits: 9,
        form: &[3, 3, 3],
        separators: b" -",
        check: luhn,
        words: &["sin", "social insurance", "assurance sociale", "nas"],
        by_form: false,
        by_check: false,
    },
    Scheme {
        kind: "nl_bsn",
        digits: 9,
        form: &[4, 2, 3],
        separators: b". ",
        check: bsn,
        words: &["bsn", "burgerservicenummer", "sofinummer", "sofi"],
        by_form: false,
        by_check: false,
    },
    Scheme {
        kind: "se_personnummer",
        digits: 10,
        form: &[6, 4],
        separators: b"-+",
        check: personnummer,
        words: &["personnummer", "samordningsnummer"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "de_tax_id",
        digits: 11,
        form: &[2, 3, 3, 3],
        separators: b" ",
        check: mod_11_10,
        words: &["steuer-id", "steueridentifikationsnummer", "steuernummer", "idnr", "tax id", "steuer-idnr"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "br_cpf",
        digits: 11,
        form: &[3, 3, 3, 2],
        separators: b".-",
        check: cpf,
        words: &["cpf", "cadastro de pessoas"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "pl_pesel",
        digits: 11,
        form: &[11],
        separators: b"",
        check: pesel,
        words: &["pesel"],
        by_form: false,
        by_check: false,
    },
    Scheme {
        kind: "in_aadhaar",
        digits: 12,
        form: &[4, 4, 4],
        separators: b" -",
        check: aadhaar,
        words: &["aadhaar", "aadhar", "uidai", "आधार"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "ch_ahv",
        digits: 13,
        form: &[3, 4, 4, 2],
        separators: b". ",
        check: ahv,
        words: &["ahv", "avs", "sozialversicherungsnummer"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "kr_rrn",
        digits: 13,
        form: &[6, 7],
        separators: b"-",
        check: rrn,
        words: &["rrn", "주민등록번호", "주민번호"],
        by_form: true,
        by_check: false,
    },
    Scheme {
        kind: "fr_nir",
        digits: 15,
        form: &[1, 2, 2, 2, 3, 3, 2],
        separators: b" ",
        check: nir,
        words: &["nir", "sécurité sociale", "securite sociale"],
        by_form: true,
        by_check: true,
    },
];

/// Words beside telephone numbers.
const PHONE_WORDS: &[&str] = &[
    "phone",
    "phones",
    "telephone",
    "tel",
    "cell",
    "cellphone",
    "mobile",
    "mob",
    "fax",
    "call",
    "calling",
    "call me at",
    "dial",
    "text me",
    "sms",
    "whatsapp",
    "desk",
    "office",
    "contact number",
    "answering at",
    "reach me at",
    "reached at",
    "hotline",
    "telefon",
    "handy",
    "mobil",
    "rufnummer",
    "anrufen",
    "téléphone",
    "portable",
    "appelez",
    "teléfono",
    "telefono",
    "móvil",
    "celular",
    "llame",
    "telefone",
    "ligue",
    "cellulare",
    "chiama",
    "telefoon",
    "mobiel",
    "bel",
    "телефон",
    "тел",
    "電話",
    "携帯",
    "电话",
    "手机",
    "전화",
    "휴대폰",
];

/// Looks at the run of digits that begins at `start`; gives where to go on.
pub(super) fn at(text: &str, start: usize, hits: &mut Vec<Hit>) -> usize {
    let run = Run::read(text, start);
    let end = run.groups[run.count - 1].end;
    let found = hits.len();
    if let Some(hit) = run.address() {
        hits.push(hit);
        return end;
    }
    let mut group = 0;
    while group < run.count {
        match run.card(group).or_else(|| run.national(group)) {
            Some((hit, next)) => {
                hits.push(hit);
                group = next;
            }
            None => group += 1,
        }
    }
    if hits.len() == found {
        hits.extend(run.phone());
    }
    end
}

impl<'a> Run<'a> {
    fn read(text: &'a str, start: usize) -> Self {
        let bytes = text.as_bytes();
        let mut run = Self { text, groups: [Group::default(); GROUPS_MAX], count: 0 };
        let mut at = start;
        while run.count < GROUPS_MAX {
            let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            run.groups[run.count] = Group { start: at, end: at + digits };
            run.count += 1;
            at += digits;
            let gap = bytes[at..].iter().take(4).take_while(|b| b" -./()".contains(b)).count();
            if gap == 0 || gap > 3 || !bytes.get(at + gap).is_some_and(u8::is_ascii_digit) {
                break;
            }
            at += gap;
        }
        run
    }

    fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    fn between(&self, group: usize) -> &'a str {
        &self.text[self.groups[group].end..self.groups[group + 1].start]
    }

    /// The digits of groups `from..to` as values.
    fn digits(&self, from: usize, to: usize) -> Vec<u8> {
        let bytes = self.text.as_bytes();
        self.groups[from..to].iter().flat_map(|g| &bytes[g.start..g.end]).map(|b| b - b'0').collect()
    }

    /// Whether nothing that belongs to a longer word or number touches groups `from..to`.
    fn alone(&self, from: usize, to: usize) -> bool {
        let (start, end) = (self.groups[from].start, self.groups[to - 1].end);
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before(self.text, start)) && !part(after(self.text, end))
    }

    fn hit(&self, category: Category, kind: &'static str, from: usize, to: usize) -> Hit {
        Hit { category, kind, start: self.groups[from].start, end: self.groups[to - 1].end }
    }

    fn address(&self) -> Option<Hit> {
        let dotted = self.count == 4 && (0..3).all(|group| self.between(group) == ".");
        if dotted { network::ipv4(self.text, self.groups[0].start, self.groups[3].end) } else { None }
    }

    /// A payment card that begins at `group`: a brand's prefix and length, and Luhn's sum.
    fn card(&self, group: usize) -> Option<(Hit, usize)> {
        let mut count = 0;
        for to in group + 1..=self.count.min(group + 5) {
            let last = self.groups[to - 1];
            count += last.end - last.start;
            if to > group + 1 {
                let gap = self.between(to - 2);
                // Cards are written in groups of four to seven, alike apart, the last may be shorter.
                let first = self.groups[group].end - self.groups[group].start;
                if !matches!(gap, " " | "-") || first != 4 || gap != self.between(group) {
                    return None;
                }
            }
            if count > 19 {
                return None;
            }
            if count >= 12 && self.alone(group, to) {
                let digits = self.digits(group, to);
                if let Some(brand) = brand(&digits).filter(|_| luhn(&digits)) {
                    return Some((self.hit(Category::Card, brand, group, to), to));
                }
            }
        }
        None
    }

    fn national(&self, group: usize) -> Option<(Hit, usize)> {
        SCHEMES.iter().find_map(|scheme| {
            let formed = self.has_form(group, scheme);
            let to = if formed { group + scheme.form.len() } else { group + 1 };
            let first = self.groups[group];
            if !formed && first.end - first.start != scheme.digits || !self.alone(group, to) {
                return None;
            }
            if !(scheme.check)(&self.digits(group, to)) {
                return None;
            }
            let place = (first.start, self.groups[to - 1].end);
            let sure = scheme.by_check
                || (formed && scheme.by_form && scheme.form.len() > 1)
                || near(self.text, place, scheme.words);
            sure.then(|| (self.hit(Category::NationalId, scheme.kind, group, to), to))
        })
    }

    fn has_form(&self, group: usize, scheme: &Scheme) -> bool {
        group + scheme.form.len() <= self.count
            && scheme.form.iter().enumerate().all(|(n, length)| {
                let this = self.groups[group + n];
                let apart = n == 0 || {
                    let gap = self.between(group + n - 1).as_bytes();
                    gap.len() == 1 && scheme.separators.contains(&gap[0])
                };
                this.end - this.start == *length && apart
            })
    }

    /// A telephone number: the whole run.
    fn phone(&self) -> Option<Hit> {
        let bytes = self.text.as_bytes();
        let mut start = self.groups[0].start;
        let mut end = self.groups[self.count - 1].end;
        while start > 0 && matches!(bytes[start - 1], b'(' | b'+') {
            start -= 1;
        }
        let plus = self.text[start..].starts_with('+') || self.text[start..].starts_with("(+");
        let sizes: Vec<usize> = self.groups().iter().map(|g| g.end - g.start).collect();
        let digits: usize = sizes.iter().sum();
        let touched =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '#' | '$' | '€' | '£'));
        if !(7..=17).contains(&digits) || touched(before(self.text, start)) || self.is_date(&sizes) {
            return None;
        }
        end = extension(self.text, end);
        if after(self.text, end).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '%')) {
            return None;
        }
        let first = &self.text[self.groups[0].start..self.groups[0].end];
        let open = self.text[start..].starts_with('(');
        let usual = match sizes.as_slice() {
            _ if plus => digits <= 15,
            [3, 3, 4] => self.between(1) != "/" && self.between(1) != " " || open,
            [1, 3, 3, 4] => first == "1",
            [3, 3, 3, 4] => first == "001",
            [one, .., last] => first.starts_with('0') && *one >= 2 && *last >= 2 && (9..=13).contains(&digits),
            _ => false,
        };
        let dotted = (0..self.count - 1).any(|g| self.between(g).contains('/'));
        let named = || digits <= 15 && !dotted && near(self.text, (start, end), PHONE_WORDS);
        (usual || named()).then_some(Hit { category: Category::Phone, kind: "phone", start, end })
    }

    /// Whether the run begins like a date: year, month, day in one of their orders.
    fn is_date(&self, sizes: &[usize]) -> bool {
        let Some([a, b, c]) = sizes.first_chunk::<3>() else { return false };
        let value = |group: usize| self.digits(group, group + 1).iter().fold(0u32, |n, d| n * 10 + u32::from(*d));
        match (a, b, c) {
            (4, 1..=2, 1..=2) => (1000..2200).contains(&value(0)) && value(1) <= 12 && value(2) <= 31,
            (1..=2, 1..=2, 4) => value(0) <= 31 && value(1) <= 31 && (1000..2200).contains(&value(2)),
            _ => false,
        }
    }
}

/// Where a number ends with its extension: `x123`, ` ext. 45`.
fn extension(text: &str, end: usize) -> usize {
    let rest = &text[end..];
    for mark in ["x", " x", " ext. ", " ext ", "ext", " #"] {
        if let Some(number) = rest.strip_prefix(mark) {
            let digits = number.bytes().take(6).take_while(u8::is_ascii_digit).count();
            if (1..=5).contains(&digits) {
                return end + mark.len() + digits;
            }
        }
    }
    end
}

/// The brand whose prefix and length the digits have.
fn brand(d: &[u8]) -> Option<&'static str> {
    let head = d.iter().take(4).fold(0u32, |n, d| n * 10 + u32::from(*d));
    match (head, d.len()) {
        (4000..=4999, 13 | 16 | 19) => Some("visa"),
        (5100..=5599 | 2221..=2720, 16) => Some("mastercard"),
        (3400..=3499 | 3700..=3799, 15) => Some("american_express"),
        (6011 | 6440..=6599, 16..=19) => Some("discover"),
        (3500..=3599, 16..=19) | (1800 | 2131, 15) => Some("jcb"),
        (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=19) => Some("diners_club"),
        (6200..=6299 | 8100..=8171, 16..=19) => Some("unionpay"),
        (2200..=2204, 16..=19) => Some("mir"),
        (5000..=5099 | 5600..=5899 | 6000..=6999, 12..=19) => Some("maestro"),
        _ => None,
    }
}
