//! Arbitrary bytes for the door `check_injection` of `tests/parsers/entry.rs`; run by `make fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assize::entry::knock("check_injection", data));
