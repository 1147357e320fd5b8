//! Every parser of outside text against bytes that mean harm: arbitrary ones, and recorded bodies that were cut, spliced and bent.
//!
//! Run by `cargo test --test parsers`; `make fuzz` knocks at the same doors for longer, with counters at branches. Its rule: a few
//! seconds for all, and the same bytes every time unless `PROPTEST_CASES` asks for more. The way not taken: fuzzing alone,
//! which nobody runs before a commit.
#![expect(clippy::disallowed_methods, reason = "the doors are for the program; tests stand outside of it")]

mod bend;
mod entry;
mod every_check;

use entry::{DOORS, knock};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    TestRunner::new_with_rng(
        Config { cases, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

/// Bytes without any form, and texts that look like what the doors expect.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let text = "(\\PC|[\\[\\]{}\",:\\\\u0-9a-fE.+ \\n\\x00<>/='`|#*@-]|ignore |I'm sorry|4111 1111 1111 1111|SELECT |gen_ai){0,120}";
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), text.prop_map(String::into_bytes),]
}

#[test]
fn no_door_falls_to_arbitrary_bytes() {
    for (name, _) in DOORS {
        runner()
            .run(&bytes(), |data| {
                knock(name, &data);
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}

#[test]
fn no_door_falls_to_recorded_bodies_that_were_bent() {
    for (name, _) in DOORS {
        let seeds = bend::seeds(name);
        assert!(!seeds.is_empty(), "{name} has something to begin with");
        let bent = (0..seeds.len(), prop::collection::vec(any::<[u8; 4]>(), 0..6)).prop_map(move |(seed, bends)| {
            bends.iter().fold(seeds[seed].clone(), |body, bend| bend::bend(body, *bend))
        });
        runner()
            .run(&bent, |data| {
                knock(name, &data);
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}

#[test]
fn every_fuzz_target_has_a_door_and_every_door_a_target() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    let targets: Vec<&str> = (manifest.lines())
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(targets, DOORS.map(|(name, _)| name));
}

/// For `scripts/fuzz.sh`, which says where it wants them; elsewhere they go to a folder that is thrown away.
#[test]
fn seeds_are_written_for_each_fuzz_target() {
    let unwanted = tempfile::tempdir().expect("there is room");
    let folder = std::env::var_os("FUZZ_SEEDS").map_or_else(|| unwanted.path().to_owned(), std::path::PathBuf::from);
    for (name, _) in DOORS {
        let own = folder.join(name);
        std::fs::create_dir_all(&own).expect("a folder can be made");
        for (n, body) in bend::seeds(name).iter().enumerate() {
            std::fs::write(own.join(n.to_string()), body).expect("a seed can be written");
            knock(name, body);
        }
    }
}
