//! Python literals, as `repr` prints them: what SDKs send where they meant JSON.
//!
//! Used by `lenient`. Its rule: dicts, lists, tuples, sets, strings, numbers, None, True and False are read and anything else
//! (the repr of an object) is no literal, so that a text never becomes half a structure. The way not taken: replacing
//! single quotes by double ones, which breaks on the first apostrophe.

use serde_json::{Map, Number, Value};

/// Nesting beyond this is an attack or a mistake.
const DEPTH_MAX: usize = 64;

/// The literal that the whole text is; `None` when it is something else.
pub(super) fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(0)?;
    reader.rest.trim_start().is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.as_bytes().first()? {
            b'{' => self.dict(depth),
            b'[' => self.items(']', depth).map(Value::Array),
            b'(' => self.items(')', depth).map(Value::Array),
            b'\'' | b'"' => self.strings(),
            _ => self.scalar(),
        }
    }

    fn eat(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What stands between brackets, separated by commas; a trailing comma is allowed.
    fn items(&mut self, close: char, depth: usize) -> Option<Vec<Value>> {
        self.rest = self.rest.get(1..)?;
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value(depth + 1)?);
            if !self.eat(',') {
                return self.eat(close).then_some(items);
            }
        }
        Some(items)
    }

    /// A dict, or a set, which becomes a list.
    fn dict(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.get(1..)?;
        let (mut map, mut set) = (Map::new(), Vec::new());
        while !self.eat('}') {
            let key = self.value(depth + 1)?;
            if self.eat(':') {
                let value = self.value(depth + 1)?;
                map.insert(super::lenient::plain(&key), value);
            } else {
                set.push(key);
            }
            if !self.eat(',') {
                if !self.eat('}') {
                    return None;
                }
                break;
            }
        }
        match (map.is_empty(), set.is_empty()) {
            (_, true) => Some(Value::Object(map)),
            (true, false) => Some(Value::Array(set)),
            (false, false) => None,
        }
    }

    /// Strings that follow each other are one.
    fn strings(&mut self) -> Option<Value> {
        let mut text = self.string()?;
        loop {
            let next = self.rest.trim_start();
            if !next.starts_with(['\'', '"']) {
                return Some(Value::String(text));
            }
            self.rest = next;
            text.push_str(&self.string()?);
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next()?;
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(out);
                }
                '\\' => {
                    let (_, escape) = chars.next()?;
                    let digits = match escape {
                        'n' => {
                            out.push('\n');
                            continue;
                        }
                        't' => {
                            out.push('\t');
                            continue;
                        }
                        'r' => {
                            out.push('\r');
                            continue;
                        }
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        other => {
                            out.push(other);
                            continue;
                        }
                    };
                    let mut code = 0u32;
                    for _ in 0..digits {
                        code = code.checked_mul(16)?.checked_add(chars.next()?.1.to_digit(16)?)?;
                    }
                    out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                }
                other => out.push(other),
            }
        }
        None
    }

    fn scalar(&mut self) -> Option<Value> {
        let end = self.rest.find(|c: char| matches!(c, ',' | ':' | ']' | '}' | ')') || c.is_whitespace());
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "None" => Some(Value::Null),
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            _ => {
                let whole = word.parse::<i64>().ok().map(Value::from);
                whole.or_else(|| word.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::literal;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn literals_are_read_and_reprs_of_objects_are_not() {
        let text =
            r#"{'a': "it's", 'b': [1, 2.5, None, True], 'c': ('x',), 'd': {}, 'e': 'a\'b\n\u00e9\x41', 'f': {1, 2}}"#;
        let want = json!({"a": "it's", "b": [1, 2.5, null, true], "c": ["x"], "d": {}, "e": "a'b\néA", "f": [1, 2]});
        assert_eq!(literal(text), Some(want));
        for no in ["{'a': <object at 0x1>}", "[ret-002] A policy.", "{'a': ", "", "{'a' 1}", "[1, 2"] {
            assert_eq!(literal(no), None, "{no}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}|[\\[\\](){}'\"\\\\:, xuUN0-9a-f-]{0,80}") {
            drop(literal(&text));
        }
    }
}
