//! Arbitrary bytes for the door `native` of `tests/parsers/entry.rs`; run by `make fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assize::entry::knock("native", data));
