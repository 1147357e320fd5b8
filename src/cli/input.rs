//! Files of traces: native JSON lines, OTLP protobuf and OTLP JSON, as they are or compressed.
//!
//! Read by `eval`, `explain`, `rubric diff` and `demo`. Its rule: the form is told from the content where the name does not say
//! it; a bad line is named and the rest is used. The way not taken: a flag for the format.

use crate::dialect::{DecodeError, Decoded, Encoding, decode, native};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::pipeline::assemble::assemble;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What files of traces are called; in a folder nothing else is read.
const ENDINGS: [&str; 7] = ["jsonl", "ndjson", "json", "pb", "binpb", "protobuf", "otlp"];

/// What stands behind the ending of a compressed file.
const COMPRESSED: [&str; 2] = ["gz", "zst"];

/// Most bytes of one unpacked file.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;

/// Traces of some files, and what could not be used.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub traces: Vec<Trace>,
    pub rejected: Vec<String>,
}

impl Input {
    /// Says on stderr what cannot be used.
    pub fn tell(&self) {
        const TOLD_MAX: usize = 20;
        for why in self.rejected.iter().take(TOLD_MAX) {
            eprintln!("not used: {why}");
        }
        if self.rejected.len() > TOLD_MAX {
            eprintln!("not used: {} more", self.rejected.len() - TOLD_MAX);
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Otlp(Encoding),
    Native,
}

/// Tells the form of a file.
pub(super) fn form(path: &Path, body: &[u8]) -> Form {
    if matches!(ending(path).as_str(), "pb" | "binpb" | "protobuf") {
        return Form::Otlp(Encoding::Protobuf);
    }
    let start = &body[..body.len().min(4096)];
    let has = |needle: &[u8]| start.windows(needle.len()).any(|w| w == needle);
    if has(b"\"resourceSpans\"") || has(b"\"resource_spans\"") {
        return Form::Otlp(Encoding::Json);
    }
    // Standard input has no name: field 1 of length-delimited bytes is how protobuf begins, and no JSON does.
    if start.first() == Some(&0x0a) && std::str::from_utf8(start).is_err() {
        return Form::Otlp(Encoding::Protobuf);
    }
    Form::Native
}

/// The ending of a file's name, the one before `.gz` of a compressed one.
fn ending(path: &Path) -> String {
    let of = |path: &Path| path.extension().map_or_else(String::new, |e| e.to_string_lossy().to_lowercase());
    let last = of(path);
    if COMPRESSED.contains(&last.as_str()) { of(Path::new(path.file_stem().unwrap_or_default())) } else { last }
}

/// Reads files, folders (with what is below them), globs, and standard input as `-`.
pub(super) fn read(given: &[PathBuf]) -> anyhow::Result<Input> {
    let mut input = Input::default();
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for path in &expand(given)? {
        let body = unpacked(body(path)?).with_context(|| format!("cannot unpack {}", path.display()))?;
        let place = |what: &str| format!("{}: {what}", path.display());
        let found = match form(path, &body) {
            Form::Otlp(encoding) => {
                let decoded = otlp(&body, encoding).with_context(|| place("not an OTLP body"))?;
                input.rejected.extend(decoded.rejected.iter().map(|why| place(why)));
                decoded.spans
            }
            Form::Native => {
                native_spans(&body, &mut |line, why| input.rejected.push(place(&format!("line {line}: {why}"))))
            }
        };
        for span in found {
            spans.entry(span.trace_id.clone()).or_default().push(span);
        }
    }
    input.traces = spans.into_iter().map(|(id, spans)| assemble(&id, spans)).collect();
    Ok(input)
}

/// The files that are meant, each once.
fn expand(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for path in given {
        let text = path.to_string_lossy();
        let found = if path.as_os_str() == "-" || path.is_file() {
            vec![path.clone()]
        } else if path.is_dir() {
            let all = below(path).with_context(|| format!("cannot read the folder {text}"))?;
            if all.is_empty() {
                bail!("there is no file of traces in {text} (its name must end in .{})", ENDINGS.join(", ."));
            }
            all
        } else if text.contains(['*', '?', '[']) {
            let all = glob::glob(&text).with_context(|| format!("`{text}` is not a glob"))?;
            let all: Vec<PathBuf> = all.filter_map(Result::ok).filter(|path| path.is_file()).collect();
            if all.is_empty() {
                bail!("no file fits {text}");
            }
            all
        } else {
            // A pipe, or nothing: reading it says which.
            vec![path.clone()]
        };
        files.extend(found.into_iter().filter(|path| seen.insert(path.clone())));
    }
    Ok(files)
}

/// Files of traces in a folder and below it, by name; hidden ones are not meant.
fn below(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.is_symlink() {
            found.extend(below(&path)?);
        } else if path.is_file() && !hidden && ENDINGS.contains(&ending(&path).as_str()) {
            found.push(path);
        }
    }
    Ok(found)
}

fn body(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body).context("cannot read standard input")?;
        return Ok(body);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What a gzip or zstd file holds; anything else as it is.
fn unpacked(body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let reader: Box<dyn Read + '_> = if body.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(body.as_slice()))
    } else if body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::new(body.as_slice())?)
    } else {
        return Ok(body);
    };
    let mut out = Vec::new();
    reader.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut out)?;
    if out.len() as u64 > UNPACKED_BYTES_MAX {
        bail!("it holds more than {UNPACKED_BYTES_MAX} bytes; split it");
    }
    Ok(out)
}

/// One body, or what the Collector's file exporter writes: a JSON body a line, or protobuf bodies each behind its length.
fn otlp(body: &[u8], encoding: Encoding) -> Result<Decoded, DecodeError> {
    let whole = match decode(body, encoding) {
        Ok(decoded) => return Ok(decoded),
        Err(error) => error,
    };
    let parts: Vec<&[u8]> = match encoding {
        Encoding::Json => body.split(|b| *b == b'\n').collect(),
        Encoding::Protobuf => framed(body).unwrap_or_default(),
    };
    let mut all = Decoded::default();
    for (n, part) in parts.iter().enumerate().filter(|(_, part)| !part.trim_ascii().is_empty()) {
        let place =
            |why: &str| format!("{} {}: {why}", if encoding == Encoding::Json { "line" } else { "body" }, n + 1);
        match decode(part, encoding) {
            Ok(decoded) => {
                all.rejected.extend(decoded.rejected.iter().map(|why| place(why)));
                all.spans.extend(decoded.spans);
            }
            Err(why) => all.rejected.push(place(&why.to_string())),
        }
    }
    if all.spans.is_empty() { Err(whole) } else { Ok(all) }
}

/// Bodies that each stand behind their length in four bytes, the highest first; `None` when it is not so to the end.
fn framed(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        parts.push(part);
        body = rest;
    }
    Some(parts)
}

fn native_spans(body: &[u8], reject: &mut dyn FnMut(usize, String)) -> Vec<Span> {
    let mut found = Vec::new();
    let mut take = |line: usize, value: Result<serde_json::Value, String>| match value.and_then(|v| native::spans(&v)) {
        Ok(spans) => found.extend(spans),
        Err(why) => reject(line, why),
    };
    match serde_json::from_slice(body) {
        Ok(serde_json::Value::Array(list)) => list.into_iter().enumerate().for_each(|(n, v)| take(n + 1, Ok(v))),
        Ok(one) => take(1, Ok(one)),
        Err(_) => {
            for (n, line) in body.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
                take(n + 1, serde_json::from_slice(line).map_err(|e| format!("not JSON: {e}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn ids(given: &[PathBuf]) -> Vec<String> {
        let input = read(given).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(input.rejected, Vec::<String>::new());
        input.traces.into_iter().map(|t| t.trace_id).collect()
    }

    #[test]
    fn every_form_of_the_same_traces_gives_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = ids(&[fixture("otel-genai-openai-span.pb")]);
        assert!(plain.len() > 3, "{plain:?}");
        let body = std::fs::read(fixture("otel-genai-openai-span.pb")).expect("it is there");
        let json = std::fs::read(fixture("otel-genai-openai-span.json")).expect("it is there");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            std::fs::write(&path, bytes).expect("it can be written");
            path
        };
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&body).expect("into memory");
        let packed = write("a.pb.gz", &gz.finish().expect("into memory"));
        let zst = write("b.pb.zst", &zstd::encode_all(body.as_slice(), 1).expect("into memory"));
        let length = u32::try_from(body.len()).expect("small").to_be_bytes();
        let framed = write("c.pb", &[&length[..], &body, &length, &body].concat());
        let lines = write("below/d.jsonl", format!("{json}\n{json}\n").as_bytes());
        for path in [&packed, &zst, &framed, &lines] {
            assert_eq!(ids(std::slice::from_ref(path)), plain, "{}", path.display());
        }
        write("README.md", b"no traces");
        assert_eq!(ids(&[dir.path().to_owned()]), plain, "a folder, with what is below it");
        assert_eq!(ids(&[dir.path().join("*.pb*"), packed]), plain, "a glob");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, word) in [
            (dir.path().to_owned(), "no file of traces"),
            (dir.path().join("*.x"), "no file fits"),
            (dir.path().join("y"), "cannot read"),
        ] {
            let why = read(&[path]).expect_err("nothing is there").to_string();
            assert!(why.contains(word), "{why}");
        }
    }
}
