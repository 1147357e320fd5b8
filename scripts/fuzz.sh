#!/bin/sh
# Runs fuzz targets one after another, each for FUZZ_SECONDS (600), on one core. Usage: scripts/fuzz.sh [target …]; none: all.
#
# Counters at branches come from LLVM's own pass, which the stable compiler has; sanitizers would need a nightly one, and safe
# Rust has little for them to find. What crashes is kept under fuzz/artifacts, what reached new code under fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds="${FUZZ_SECONDS:-600}"
triple="$(rustc -vV | sed -n 's/^host: //p')"
echo "fuzz: writing what each target begins with"
FUZZ_SEEDS="$PWD/fuzz/seeds" cargo test --quiet --test parsers seeds_are_written
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-fuzz/target}"
# --target keeps these flags away from build scripts and macros.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
echo "fuzz: building with counters (the first build takes some minutes)"
cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$triple"
[ $# -gt 0 ] || set -- $(sed -n 's#^path = "fuzz_targets/\(.*\).rs"$#\1#p' fuzz/Cargo.toml)
for target in "$@"; do
  corpus="fuzz/corpus/$target" found="fuzz/artifacts/$target/"
  mkdir -p "$corpus" "$found"
  echo "fuzz: $target for $seconds seconds"
  "$CARGO_TARGET_DIR/$triple/release/$target" -max_total_time="$seconds" -timeout=30 -report_slow_units=30 -rss_limit_mb=2048 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$found" "$corpus" "fuzz/seeds/$target" 2>&1 | grep -E 'stat::|DONE|ERROR|SUMMARY|panicked|Test unit|ALARM' || true
  if [ -n "$(ls "$found")" ]; then
    echo "fuzz: $target failed on $found$(ls "$found" | head -1)" >&2
    exit 1
  fi
done
