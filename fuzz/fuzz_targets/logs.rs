//! Arbitrary bytes for the door `logs` of `tests/parsers/entry.rs`; run by `make fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assize::entry::knock("logs", data));
