#!/bin/sh
# Loads every monitor and the dashboard into the typed models of Datadog's own Python client, reads the Terraform and every PromQL
# expression with parsers of others, and sends one verdict of ours and the same evaluation through ddtrace to a recorder: the two
# must be equal but for versions and times.
#
#   tests/datadog_client.sh                installs the clients under target/datadog-client when they are absent, then runs
#   ASSIZE=path tests/datadog_client.sh    with that program instead of target/debug/assize
#
# Without Python or a package index it says so and succeeds: the shapes are also held by snapshots.
set -eu
cd "$(dirname "$0")/.."

CLIENT_VERSION=2.62.0
DDTRACE_VERSION=4.16.0
OTHERS="promql-parser==0.11.0 python-hcl2==8.1.4 PyYAML==6.0.3"
VENV=target/datadog-client
ASSIZE=${ASSIZE:-target/debug/assize}

say() { printf 'datadog-check: %s\n' "$*" >&2; }
skip() {
    say "skipped: $*"
    exit 0
}

command -v python3 >/dev/null 2>&1 || skip 'python3 is missing'
[ -x "$ASSIZE" ] || {
    say "$ASSIZE is not built; run cargo build, or name the program with ASSIZE=path"
    exit 1
}
mark=$VENV/.installed-$CLIENT_VERSION-$DDTRACE_VERSION
if [ ! -e "$mark" ]; then
    say "installing datadog-api-client $CLIENT_VERSION and ddtrace $DDTRACE_VERSION under $VENV"
    rm -rf "$VENV"
    mkdir -p target
    python3 -m venv "$VENV" >/dev/null 2>&1 || skip 'python3 cannot make a virtual environment (python3-venv)'
    # shellcheck disable=SC2086 # several words are meant
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --timeout 20 --retries 1 \
        "datadog-api-client==$CLIENT_VERSION" "ddtrace==$DDTRACE_VERSION" $OTHERS 2>"$VENV/install.log" || {
        tail -n 3 "$VENV/install.log" >&2
        skip 'the clients cannot be installed; is there a network?'
    }
    : >"$mark"
fi

# Settings of this shell must reach neither the program nor the clients.
for name in $(env | sed -nE 's/^(ASSIZE__[A-Za-z0-9_]*|ASSIZE_CONFIG|OPENAI_[A-Z_]*|DD_[A-Z_]*|DATABASE_URL)=.*/\1/p'); do
    unset "$name"
done
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 PYTHONDONTWRITEBYTECODE=1

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Two monitors need rubrics that a folder may not have.
cp -R rubrics "$out/rubrics"
for name in context_relevance prompt_injection; do
    [ -e "$out/rubrics/$name.yaml" ] || printf 'name: %s\nchecks: [failure_to_answer]\n' "$name" >"$out/rubrics/$name.yaml"
done
export ASSIZE__RUBRICS__DIR="$out/rubrics"
"$ASSIZE" datadog monitors --notify @slack-llm --runbook https://runbooks.example/assize --out "$out"
"$ASSIZE" datadog dashboard --out "$out"
"$ASSIZE" datadog monitors --format terraform --out "$out"
"$ASSIZE" datadog dashboard --format terraform --out "$out"
"$ASSIZE" grafana dashboard >"$out/grafana.json"
"$ASSIZE" prometheus rules >"$out/rules.yml"
"$VENV/bin/python" tests/datadog_client.py models "$out"
"$VENV/bin/python" tests/datadog_client.py others "$out"
"$VENV/bin/python" tests/datadog_client.py ddtrace "$ASSIZE"
