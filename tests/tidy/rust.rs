//! Reading Rust as far as the rules need it: comments and strings masked, `crate::` uses, code that only tests see.

use super::tree::Problem;

/// A Rust file, with its code masked: comments are blank, and what strings hold is filled with quotes.
#[derive(Debug, Clone)]
pub struct Source {
    pub path: String,
    pub text: String,
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: mask(text) }
    }

    /// Something wrong on a line of this file.
    pub fn problem(&self, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(&self.path, line, what, remedy)
    }

    /// The line of an offset into the code.
    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where the code has one of these texts.
    pub fn mentions(&self, needles: &[&str], why: &str, remedy: &str) -> Vec<Problem> {
        let found =
            needles.iter().flat_map(|needle| find_all(&self.code, needle).into_iter().map(move |at| (at, needle)));
        found.map(|(at, needle)| self.problem(self.line_of(at), format!("`{needle}` {why}"), remedy)).collect()
    }

    /// `src/store/jobs.rs` is in folder `store`, and `src/app.rs` in `app`.
    pub fn folder(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split(['/', '.']).next().unwrap_or_default()
    }

    /// Whether this is the file of a module such as `src/dialect/tests`, or below it.
    pub fn is_in_module(&self, module: &str) -> bool {
        self.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// What follows `crate::`, also in groups, with its line. Items and macros of lib.rs itself are left out.
    pub fn uses(&self) -> Vec<(&str, usize)> {
        let mut found = Vec::new();
        for at in find_all(&self.code, "crate::") {
            let start = at + "crate::".len();
            let group = self.code[start..].starts_with('{');
            let starts = if group { group_items(&self.code, start) } else { vec![start] };
            found.extend(starts.into_iter().map(|start| (word_at(&self.code, start), start)));
        }
        let is_macro = |name: &str, start: usize| self.code[start + name.len()..].starts_with('!');
        found.retain(|(name, start)| name.starts_with(|c: char| c.is_ascii_lowercase()) && !is_macro(name, *start));
        found.into_iter().map(|(name, start)| (name, self.line_of(start))).collect()
    }
}

/// Where the items of the `{a::b, c::{d, e}}` that begins at `open` start.
fn group_items(code: &str, open: usize) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut depth, mut awaited) = (0, false);
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' => (depth, awaited) = (depth + 1, depth == 0),
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => awaited = true,
            _ if awaited && !c.is_whitespace() => {
                starts.push(open + offset);
                awaited = false;
            }
            _ => {}
        }
    }
    starts
}

/// Whether it may be a part of a name.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that starts here.
pub fn word_at(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
}

/// Where `needle` stands, not as a part of a longer word.
pub fn find_all(text: &str, needle: &str) -> Vec<usize> {
    let joined = |a: Option<char>, b: Option<char>| a.is_some_and(is_word) && b.is_some_and(is_word);
    let found = text.match_indices(needle).map(|(at, _)| at);
    let whole = found.filter(|at| {
        let (before, after) = (&text[..*at], &text[at + needle.len()..]);
        !joined(before.chars().next_back(), needle.chars().next())
            && !joined(needle.chars().next_back(), after.chars().next())
    });
    whole.collect()
}

/// Blanks comments and fills strings with quotes, keeping lines and white space.
pub fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let (taken, filler) = match rest {
            ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), Some(' ')),
            ['/', '*', ..] => (block_comment(rest), Some(' ')),
            ['"', ..] => (string(rest, raw_hashes(&chars[..at])), Some('"')),
            ['\'', '\\', _, tail @ ..] => {
                (3 + tail.iter().position(|c| *c == '\'').map_or(tail.len(), |p| p + 1), Some('"'))
            }
            ['\'', _, '\'', ..] => (3, Some('"')),
            _ => (1, None),
        };
        out.extend(rest[..taken].iter().map(|c| if c.is_whitespace() { *c } else { filler.unwrap_or(*c) }));
        at += taken;
    }
    out
}

/// Length of the comment, comments within it included.
fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        let step = match &chars[at..] {
            ['/', '*', ..] => 1,
            ['*', '/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// The number of `#` when what stands before a quote makes it a raw string.
fn raw_hashes(before: &[char]) -> Option<usize> {
    let hashes = before.iter().rev().take_while(|c| **c == '#').count();
    let word: String = before[..before.len() - hashes].iter().rev().take_while(|c| is_word(**c)).collect();
    ["r", "rb", "rc"].contains(&word.as_str()).then_some(hashes)
}

/// Length of the string that opens here, both quotes included.
fn string(chars: &[char], raw_hashes: Option<usize>) -> usize {
    let mut at = 1;
    while at < chars.len() {
        match (chars[at], raw_hashes) {
            ('\\', None) => at += 1,
            ('"', None) => return at + 1,
            ('"', Some(hashes)) if chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes => {
                return at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

const TEST_ONLY: &str = "#[cfg(test)]";

/// Modules in files of their own that are only built for tests, as paths without `.rs`.
pub fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|last| stem.strip_suffix(last)).unwrap_or(stem);
    let items = find_all(&source.code, TEST_ONLY).into_iter().map(|at| &source.code[at..item_end(&source.code, at)]);
    let names = items.filter_map(|item| item.strip_suffix(';')?.split_once("mod "));
    names.map(|(_, name)| format!("{folder}/{}", name.trim())).collect()
}

/// The code with the items under `#[cfg(test)]` blanked.
pub fn without_tests(code: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for start in find_all(code, TEST_ONLY) {
        if start >= at {
            out.push_str(&code[at..start]);
            at = item_end(code, start);
            out.extend(code[start..at].chars().filter(|c| *c == '\n'));
        }
    }
    out + &code[at..]
}

/// Where the item ends that begins at `start` with its attributes: after its `;` or its last brace.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[start..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == ';' || c == '}') {
            return start + offset + 1;
        }
    }
    code.len()
}
