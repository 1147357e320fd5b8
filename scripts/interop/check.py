"""Every verdict must be scored by both judges, each with the vote that its mock computes.

python3 check.py TRACES VERDICTS REQUESTS: prints a table and, last, one line of JSON.
"""

import json
import sys
from collections import Counter

RUBRICS = ("interop_boolean", "interop_category", "interop_score")
SHARES = {"aimock": (0.7, 0.3), "litellm": (0.9, 0.1)}


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def expected(rubric, judge, trace):
    share = SHARES[judge][trace["output"] == "I have no idea."]
    return share if rubric == "interop_score" else float(share > 0.5)


def main(traces_path, verdicts_path, requests_path):
    traces = {t["trace_id"]: t for t in lines(traces_path)}
    verdicts, requests = lines(verdicts_path), lines(requests_path)
    wrong = []
    pairs = Counter((v["trace_id"], v["rubric"]) for v in verdicts)
    if pairs != Counter((t, r) for t in traces for r in RUBRICS):
        wrong.append(f"verdicts are not one for each trace and rubric: {sorted(pairs.items())}")
    row = "{:<14} {:<17} {:<8} {:<12} {:>5}  {:>8}  {}".format
    print(row("trace", "rubric", "judge", "rung", "score", "attempts", "raw"))
    for v in sorted(verdicts, key=lambda v: (v["trace_id"], v["rubric"])):
        where = f"{v['trace_id']} {v['rubric']}"
        if v["outcome"] != "scored":
            wrong.append(f"{where}: outcome {v['outcome']}")
        if sorted(vote["judge"] for vote in v["votes"]) != sorted(SHARES):
            wrong.append(f"{where}: votes of {[vote['judge'] for vote in v['votes']]}")
        for vote in sorted(v["votes"], key=lambda vote: vote["judge"]):
            score, judge = vote["score"], vote["judge"]
            shown = "-" if score is None else f"{score:.2f}"
            raw = json.dumps(vote["raw"])
            print(row(v["trace_id"], v["rubric"], judge, vote["rung"], shown, vote["attempts"], raw))
            if vote["error"] or score is None:
                wrong.append(f"{where} {judge}: {vote['error'] or 'no score'}")
            elif abs(score - expected(v["rubric"], judge, traces[v["trace_id"]])) > 1e-6:
                wrong.append(f"{where} {judge}: score {score} is not what the mock computes")
            elif not (vote["reason"] or "").startswith(f"[{judge}]"):
                wrong.append(f"{where} {judge}: the reason is not that of the mock")
    wrong += [f"{r['judge']}: a request whose instructions hold no canary" for r in requests if not r["canary"]]
    for why in wrong:
        print(f"wrong: {why}", file=sys.stderr)
    votes = [vote for v in verdicts for vote in v["votes"]]
    figures = {
        "ok": not wrong,
        "traces": len(traces),
        "rubrics": len(RUBRICS),
        "verdicts": len(verdicts),
        "scored": sum(v["outcome"] == "scored" for v in verdicts),
        "votes": len(votes),
        "vote_errors": sum(bool(vote["error"]) for vote in votes),
        "attempts": sum(vote["attempts"] for vote in votes),
        "rungs": {j: dict(Counter(x["rung"] for x in votes if x["judge"] == j)) for j in sorted(SHARES)},
        "requests": dict(sorted(Counter(r["judge"] for r in requests).items())),
        "with_canary": dict(sorted(Counter(r["judge"] for r in requests if r["canary"]).items())),
        "wrong": len(wrong),
    }
    print(json.dumps(figures))
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
