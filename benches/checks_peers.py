"""The Python half of `cargo bench --bench checks -- --peers`.

Called by benches/checks/peers.rs. Reads the inputs as one line of JSON, says `ready` or what is missing, then answers each name on its
input with the microseconds that one call took, as the mean of a round.
"""

import json
import sys
import time

try:
    from rouge_score import rouge_scorer
except ImportError:
    rouge_scorer = None


def main():
    inputs = json.loads(sys.stdin.readline())
    calls = {"json.loads": (json.loads, [(text,) for text in inputs["json"]])}
    if rouge_scorer:
        scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2"])
        calls["rouge-score rouge1+rouge2"] = (scorer.score, list(zip(inputs["contexts"], inputs["answers"])))
    else:
        print("checks: rouge-score is not installed (pip install rouge-score), so it is left out", file=sys.stderr)
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        if name not in calls:
            print("not there", flush=True)
            continue
        call, arguments = calls[name]
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.05:
            for one in arguments[:8]:
                call(*one)
            count += 8
        print((time.perf_counter() - begun) * 1e6 / count, flush=True)


main()
