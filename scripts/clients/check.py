"""Every trace that a client sent must be judged, and its judge must have read the question and the answer.

python3 check.py SENT REQUESTS CLIENT…: reads verdicts from $DOOR_URL with $DOOR_TOKEN; prints a table and, last, one line of JSON.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 60
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def story(trace_id):
    """What the read API tells of a trace; nothing while it has not come."""
    request = urllib.request.Request(
        f"{os.environ['DOOR_URL']}/api/v1/traces/{trace_id}",
        headers={"authorization": f"Bearer {os.environ['DOOR_TOKEN']}"},
    )
    try:
        with DIRECT.open(request, timeout=10) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None


def judged(trace_id, until):
    """Waits until the trace has a verdict; gives what is known then."""
    while True:
        told = story(trace_id)
        if (told and told["verdicts"]) or time.monotonic() > until:
            return told
        time.sleep(0.2)


def main(sent_path, requests_path, clients):
    sent = {line["client"]: line for line in lines(sent_path)}
    until = time.monotonic() + PATIENCE_SECONDS
    row = "{:<18} {:<7} {:>5}  {:<15} {:<9} {:<7} {}".format
    print(row("client", "sent", "spans", "outcome", "question", "answer", "trace"))
    wrong, scored = [], 0
    for client in clients:
        if client not in sent:
            print(row(client, "no", "-", "-", "-", "-", "-"))
            wrong.append(f"{client}: did not send")
            continue
        line = sent[client]
        told = judged(line["trace_id"], until)
        verdict = told["verdicts"][0] if told and told["verdicts"] else None
        outcome = verdict["outcome"] if verdict else (told["state"] if told else "unknown")
        prompts = ["\n".join(texts) for texts in lines(requests_path)]
        about = [prompt for prompt in prompts if line["question"] in prompt]
        read = {"question": bool(about), "answer": any(line["answer"] in prompt for prompt in about)}
        spans = told["spans"][0] if told else "-"
        seen = ["read" if read[what] else "missing" for what in ("question", "answer")]
        print(row(client, "yes", spans, outcome, *seen, line["trace_id"]))
        scored += outcome == "scored"
        if outcome != "scored":
            wrong.append(f"{client}: outcome {outcome}")
        wrong += [f"{client}: the judge did not read the {what}" for what, was in read.items() if not was]
        if verdict and not any(vote["score"] is not None for vote in verdict["votes"]):
            wrong.append(f"{client}: no vote of a judge")
    for why in wrong:
        print(f"wrong: {why}", file=sys.stderr)
    figures = {"ok": not wrong, "clients": len(clients), "sent": len(sent), "scored": scored, "wrong": len(wrong)}
    print(json.dumps(figures))
    return 1 if wrong else 0


sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
