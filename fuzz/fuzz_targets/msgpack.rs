//! Arbitrary bytes for the door `msgpack` of `tests/parsers/entry.rs`; run by `make fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assize::entry::knock("msgpack", data));
