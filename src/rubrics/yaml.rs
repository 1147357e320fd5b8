//! A YAML text to a tree that knows where each key and value stands.
//!
//! Called by `parse`. Its rule: places are byte ranges of the text, so that an error can show the line itself; a key that stands
//! twice is an error. The way not taken: serde straight from the text, which gives one error a file, often without its place.

use super::error::Problem;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use std::ops::Range;

/// Most values of a file, aliases counted in full: what is more is no rubric.
const NODES_MAX: usize = 100_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub kind: Kind,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// Whether it was written as a block (`|` or `>`), whose lines stand in the file as they are.
    pub block: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub name: String,
    pub span: Range<usize>,
}

impl Node {
    /// What it is, for people.
    pub fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Flag(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    pub fn text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    pub fn number(&self) -> Option<f64> {
        if let Kind::Number(number) = &self.kind { number.as_f64() } else { None }
    }

    pub fn list(&self) -> &[Node] {
        if let Kind::List(list) = &self.kind { list } else { &[] }
    }

    pub fn map(&self) -> &[(Key, Node)] {
        if let Kind::Map(pairs) = &self.kind { pairs } else { &[] }
    }

    /// The value under a key.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.map().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// The value at the end of a path of keys and list positions, or the deepest that is there.
    pub fn at(&self, path: &[&str]) -> &Node {
        let Some((first, rest)) = path.split_first() else { return self };
        let found = self.get(first).or_else(|| self.list().get(first.parse::<usize>().ok()?));
        found.map_or(self, |node| node.at(rest))
    }

    /// Without places.
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Flag(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(list) => list.iter().map(Node::value).collect(),
            Kind::Map(pairs) => {
                Value::Object(pairs.iter().map(|(k, v)| (k.name.clone(), v.value())).collect::<Map<_, _>>())
            }
        }
    }
}

/// Reads one document.
///
/// # Errors
/// What is not YAML, or stands twice, with its place.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader::new(text);
    let mut parser = Parser::new_from_str(text);
    let mut root = None;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let at = reader.byte(error.marker().index());
            Problem::at(at..at, format!("this is not YAML: {}", error.info())).help("check indentation and quotes")
        })?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(
                    Problem::at(reader.range(span), "a second document begins here").help("one file is one rubric")
                );
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => root = Some(reader.node(&mut parser, event, span, 0)?),
        }
    }
    root.ok_or_else(|| {
        Problem::at(0..0, "the file is empty").help("begin with `name:`; `assize rubric new` writes a start")
    })
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

struct Reader {
    /// Byte offset of each character, and of the end.
    bytes: Vec<usize>,
    anchors: HashMap<usize, Node>,
    left: usize,
}

impl Reader {
    fn new(text: &str) -> Self {
        let bytes = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        Self { bytes, anchors: HashMap::new(), left: NODES_MAX }
    }

    fn byte(&self, index: usize) -> usize {
        self.bytes.get(index).or(self.bytes.last()).copied().unwrap_or(0)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }

    fn node(&mut self, events: &mut Events<'_>, event: Event<'_>, span: Span, depth: usize) -> Result<Node, Problem> {
        let mut range = self.range(span);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || depth > DEPTH_MAX {
            return Err(Problem::at(range, "this is too large for a rubric").help("is it the right file?"));
        }
        let (kind, anchor, block) = match event {
            Event::Alias(id) => {
                let known = self.anchors.get(&id).cloned();
                let node = known.ok_or_else(|| Problem::at(range.clone(), "this alias has no anchor"))?;
                self.left = self.left.saturating_sub(count(&node));
                return Ok(Node { span: range, ..node });
            }
            Event::Scalar(text, style, anchor, _) => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let plain = style == ScalarStyle::Plain;
                (if plain { scalar(&text) } else { Kind::Text(text.into_owned()) }, anchor, block)
            }
            Event::SequenceStart(anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match self.next(events)? {
                        (Event::SequenceEnd, end) => break range.end = range.end.max(self.range(end).end),
                        (event, span) => list.push(self.node(events, event, span, depth + 1)?),
                    }
                }
                (Kind::List(list), anchor, false)
            }
            Event::MappingStart(anchor, _) => {
                let pairs = self.pairs(events, &mut range, depth)?;
                (Kind::Map(pairs), anchor, false)
            }
            _ => (Kind::Null, 0, false),
        };
        let node = Node { kind, span: range, block };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn pairs(
        &mut self,
        events: &mut Events<'_>,
        range: &mut Range<usize>,
        depth: usize,
    ) -> Result<Vec<(Key, Node)>, Problem> {
        let mut pairs: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next(events)?;
            let at = self.range(span);
            let name = match event {
                Event::MappingEnd => {
                    range.end = range.end.max(at.end);
                    return Ok(pairs);
                }
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    return Err(Problem::at(at, "a key must be a text")
                        .help("put the value in quotes if it begins with [, {, * or &"));
                }
            };
            if pairs.iter().any(|(key, _)| key.name == name) {
                return Err(Problem::at(at, format!("`{name}` stands here a second time")).help("keep one of the two"));
            }
            let (event, span) = self.next(events)?;
            let value = self.node(events, event, span, depth + 1)?;
            pairs.push((Key { name, span: at }, value));
        }
    }

    fn next<'a>(&self, events: &mut Events<'a>) -> Result<(Event<'a>, Span), Problem> {
        let end = self.byte(usize::MAX);
        let next = events.next_event().ok_or_else(|| Problem::at(end..end, "the file ends too early"))?;
        next.map_err(|error| {
            let at = self.byte(error.marker().index());
            Problem::at(at..at, format!("this is not YAML: {}", error.info())).help("check indentation and quotes")
        })
    }
}

fn count(node: &Node) -> usize {
    1 + node.list().iter().map(count).sum::<usize>() + node.map().iter().map(|(_, n)| count(n)).sum::<usize>()
}

/// A plain scalar by YAML's core schema; infinities and "not a number" stay texts, which no key accepts as a number.
fn scalar(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Flag(true),
        "false" | "False" | "FALSE" => return Kind::Flag(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        if let Ok(whole) = text.parse::<i64>() {
            return Kind::Number(whole.into());
        }
        if let Some(number) = text.parse::<f64>().ok().and_then(Number::from_f64) {
            return Kind::Number(number);
        }
    }
    Kind::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_library_and_places_are_their_bytes() {
        let text = "a: é\nb: [1, 0.5, no, null, \"1\"]\nc: |\n  x {{ y }}\n  z\nd: {e: &x 1e3, f: *x}\n";
        let node = read(text).expect("valid");
        let library: Value = yaml_serde::from_str(text).expect("valid");
        assert_eq!(node.value(), library);
        assert_eq!(&text[node.at(&["b", "1"]).span.clone()], "0.5");
        assert_eq!(&text[node.at(&["a"]).span.clone()], "é");
        assert!(node.at(&["c"]).block);
    }

    #[test]
    fn what_is_no_tree_is_an_error_with_its_place() {
        for (text, words, at) in [
            ("a: [1\n", "not YAML", 5),
            ("a: 1\na: 2\n", "second time", 5),
            ("? [x]\n: 1\n", "key must be a text", 2),
            ("a: 1\n---\nb: 2\n", "second document", 5),
            ("", "empty", 0),
        ] {
            let problem = read(text).expect_err("invalid");
            assert!(problem.message.contains(words) && problem.span.start >= at, "{text:?}: {problem:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\\n]{0,200}") {
            drop(read(&text));
        }
    }
}
