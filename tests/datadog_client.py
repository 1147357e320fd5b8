"""Holds what we write for Datadog against Datadog's own Python clients; run by datadog_client.sh.

    datadog_client.py models DIR       every monitor_*.json and dashboard.json in DIR, into the models of datadog-api-client
    datadog_client.py others DIR       the *.tf there with a parser of HCL, rules.yml and grafana.json with one of PromQL
    datadog_client.py ddtrace PROGRAM  the request that PROGRAM sends for a verdict, against ddtrace's for the same evaluation
"""

import glob
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PATIENCE_SECONDS = 90


def fail(text):
    sys.exit(f"datadog-check: {text}")


# ---- typed models ----


def unparsed(value, at):
    """Places that the models could not make sense of."""
    from datadog_api_client.model_utils import ModelComposed, ModelNormal, ModelSimple, UnparsedObject

    if isinstance(value, UnparsedObject) or getattr(value, "_unparsed", False):
        deeper = []
        if isinstance(value, (ModelNormal, ModelComposed)) and not isinstance(value, UnparsedObject):
            deeper = [p for k, v in value._data_store.items() for p in unparsed(v, f"{at}.{k}")]
        return deeper or [at]
    if isinstance(value, (ModelNormal, ModelComposed)):
        additional = getattr(value, "additional_properties", None) or {}
        found = [f"{at}.{key}: no such field" for key in additional]
        return found + [p for k, v in value._data_store.items() for p in unparsed(v, f"{at}.{k}")]
    if isinstance(value, ModelSimple):
        return []
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in unparsed(v, f"{at}.{k}")]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in unparsed(v, f"{at}[{i}]")]
    return []


def load(path, model):
    from datadog_api_client.configuration import Configuration
    from datadog_api_client.model_utils import validate_and_convert_types

    with open(path, encoding="utf-8") as file:
        value = json.load(file)
    name = os.path.basename(path)
    try:
        made = validate_and_convert_types(value, (model,), [name], True, True, configuration=Configuration())
    except Exception as error:  # the client has no common class for what it refuses
        fail(f"{name} does not load: {error}")
    return unparsed(made, name)


def models(folder):
    from datadog_api_client.v1.model.dashboard import Dashboard
    from datadog_api_client.v1.model.monitor import Monitor

    monitors = sorted(glob.glob(os.path.join(folder, "monitor_*.json")))
    if len(monitors) < 10:
        fail(f"only {len(monitors)} monitors in {folder}")
    problems = [p for path in monitors for p in load(path, Monitor)]
    problems += load(os.path.join(folder, "dashboard.json"), Dashboard)
    # The check itself must be able to fail.
    with tempfile.NamedTemporaryFile("w", suffix=".json") as bad:
        json.dump({"name": "x", "type": "no such type", "query": "x", "message": "x"}, bad)
        bad.flush()
        if not load(bad.name, Monitor):
            fail("a monitor of an unknown type was not noticed")
    if problems:
        fail("not understood by datadog-api-client:\n  " + "\n  ".join(problems))
    print(f"datadog-check: {len(monitors)} monitors and the dashboard load with nothing unparsed")


# ---- Terraform and Prometheus ----


def others(folder):
    import hcl2
    import promql_parser
    import yaml

    resources = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.tf"))):
        with open(path, encoding="utf-8") as file:
            resources += len(hcl2.load(file)["resource"])
    with open(os.path.join(folder, "rules.yml"), encoding="utf-8") as file:
        rules = [rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
    with open(os.path.join(folder, "grafana.json"), encoding="utf-8") as file:
        panels = [panel for panel in json.load(file)["panels"] if panel["type"] != "row"]
    expressions = [rule["expr"] for rule in rules] + [t["expr"] for panel in panels for t in panel["targets"]]
    for expression in expressions:
        try:
            promql_parser.parse(expression.replace("$__rate_interval", "5m"))
        except Exception as error:  # the parser has no class of its own for it
            fail(f"no PromQL: {expression}: {error}")
    if not resources or not rules or not panels:
        fail(f"something is empty: {resources} resources, {len(rules)} rules, {len(panels)} panels")
    print(
        f"datadog-check: {resources} Terraform resources, {len(rules)} Prometheus rules and {len(panels)} Grafana panels "
        f"({len(expressions)} expressions) can be parsed"
    )


# ---- the same evaluation, from ddtrace and from us ----


class Recorder(http.server.ThreadingHTTPServer):
    """Keeps what is posted to the evaluation intake."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.kept = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait(self, count):
        until = time.monotonic() + PATIENCE_SECONDS
        while len(self.kept) < count:
            if time.monotonic() > until:
                fail(f"gave up waiting for request {count} to the recorder")
            time.sleep(0.05)
        return self.kept[count - 1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "eval-metric" in self.path:
            headers = {key.lower(): value for key, value in self.headers.items()}
            self.server.kept.append({"path": self.path, "headers": headers, "body": json.loads(body)})
        self.send_response(202)
        self.end_headers()
        self.wfile.write(b"{}")

    do_PUT = do_POST

    def log_message(self, *_):
        pass


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def attribute(key, value):
    return {"key": key, "value": {"stringValue": value}}


def trace():
    now = time.time_ns()
    answer = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "Thirty days."}]}])
    question = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "How long may I return it?"}]}])
    span = {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7",
        "name": "chat gpt-4o-mini",
        "kind": 3,
        "startTimeUnixNano": str(now - 2_000_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.request.model", "gpt-4o-mini"),
            attribute("gen_ai.input.messages", question),
            attribute("gen_ai.output.messages", answer),
        ],
    }
    resource = {"attributes": [attribute("service.name", "eval-demo"), attribute("deployment.environment.name", "test")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "check"}, "spans": [span]}]}]}


def ours(program, recorder):
    """Runs the service on a private Postgres and gives the request that it sends for one trace."""
    folder = tempfile.mkdtemp(prefix="assize-check-")
    rubrics = os.path.join(folder, "rubrics")
    os.mkdir(rubrics)
    with open(os.path.join(rubrics, "answered.yaml"), "w", encoding="utf-8") as file:
        file.write("name: answered\nchecks: [failure_to_answer]\n")
    # Postgres refuses to run as root and then runs as somebody else, who must be able to come in here.
    os.chmod(folder, 0o755)
    port = free_port()
    settings = {
        "DD_API_KEY": "0" * 32,
        "ASSIZE__DATADOG__API_URL": recorder.base,
        "ASSIZE__SERVER__LISTEN": f"127.0.0.1:{port}",
        "ASSIZE__SERVER__GRPC_LISTEN": "off",
        "ASSIZE__RUBRICS__DIR": rubrics,
        "ASSIZE__DATABASE__PRIVATE_DIR": os.path.join(folder, "postgres"),
        "ASSIZE__ASSEMBLY__QUIET_MS": "200",
    }
    log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
    process = subprocess.Popen(
        [os.path.abspath(program), "serve"], cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    fail("the service did not start:\n" + log.read()[-2000:])
                time.sleep(0.1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/traces",
            data=json.dumps(trace()).encode(),
            headers={"content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10)
        return recorder.wait(1)
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def theirs(metric, recorder):
    """Has ddtrace submit the evaluation that our metric is about."""
    os.environ.update(
        DD_LLMOBS_OVERRIDE_ORIGIN=recorder.base,
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="0",
        DD_REMOTE_CONFIGURATION_ENABLED="0",
        DD_TRACE_AGENT_URL="http://127.0.0.1:9",
    )
    from ddtrace.llmobs import LLMObs

    LLMObs.enable(ml_app=metric["ml_app"], agentless_enabled=True, api_key="0" * 32, site="datadoghq.com")
    tags = dict(tag.split(":", 1) for tag in metric["tags"])
    tags.pop("ml_app")
    LLMObs.submit_evaluation(
        label=metric["label"],
        metric_type=metric["metric_type"],
        value=metric[f"{metric['metric_type']}_value"],
        span=metric["join_on"]["span"],
        tags=tags,
        ml_app=metric["ml_app"],
        timestamp_ms=metric["timestamp_ms"],
        metadata=metric["metadata"],
        assessment=metric["assessment"],
        reasoning=metric.get("reasoning"),
        eval_scope=metric["eval_scope"],
    )
    LLMObs.flush()
    kept = recorder.wait(1)
    LLMObs.disable()
    return kept


def comparable(request):
    """Path, what the intake needs of the headers, and the body with sorted tags and without ddtrace's version."""
    body = json.loads(json.dumps(request["body"]))
    for metric in body["data"]["attributes"]["metrics"]:
        metric["tags"] = sorted(t for t in metric["tags"] if not t.startswith("ddtrace.version:"))
        if metric.get("reasoning") in (None, ""):
            metric.pop("reasoning", None)
    headers = {key: request["headers"].get(key) for key in ("content-type", "dd-api-key", "content-encoding")}
    return {"path": request["path"], "headers": headers, "body": body}


def ddtrace(program):
    mine = ours(program, Recorder())
    other = theirs(mine["body"]["data"]["attributes"]["metrics"][0], Recorder())
    a, b = comparable(mine), comparable(other)
    if a != b:
        fail(f"the requests differ:\n  ours   {json.dumps(a, sort_keys=True)}\n  theirs {json.dumps(b, sort_keys=True)}")
    metric = a["body"]["data"]["attributes"]["metrics"][0]
    print(f"datadog-check: our evaluation request equals ddtrace's in path, headers and {len(metric)} fields")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("models", "others", "ddtrace"):
        sys.exit(__doc__)
    {"models": models, "others": others, "ddtrace": ddtrace}[sys.argv[1]](sys.argv[2])
