#!/bin/sh
# Judges with two OpenAI-compatible servers that are not ours: the LiteLLM proxy and aimock, both with computed replies.
#
#   scripts/interop.sh                 installs them under .tools/interop when they are absent, then runs
#   ASSIZE=path scripts/interop.sh     with that program instead of target/release/assize
#
# Needs python3 and node. The last line of output is one JSON object with the figures; fails unless all votes are right.
set -eu
cd "$(dirname "$0")/.."

LITELLM_VERSION=1.106.2
AIMOCK_VERSION=1.43.0
TOOLS=.tools/interop
HERE=scripts/interop
READY_SECONDS=180

say() { printf 'interop: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# Runs an installation, whose output is shown only when it fails. A mark tells a whole one from a broken-off one.
install_once() {
    mark=$1 what=$2
    shift 2
    [ ! -e "$mark" ] || return 0
    say "installing $what under $TOOLS (a minute or so)"
    mkdir -p "$TOOLS"
    if ! "$@" >"$TOOLS/install.log" 2>&1; then
        tail -n 20 "$TOOLS/install.log" >&2
        fail "cannot install $what"
    fi
    rm -f "$TOOLS/install.log"
    : >"$mark"
}
install_litellm() {
    rm -rf "$TOOLS/litellm"
    python3 -m venv "$TOOLS/litellm" &&
        "$TOOLS/litellm/bin/python" -m pip install --disable-pip-version-check "litellm[proxy]==$LITELLM_VERSION"
}
install_aimock() {
    rm -rf "$TOOLS/aimock"
    mkdir -p "$TOOLS/aimock" &&
        npm install --prefix "$TOOLS/aimock" --no-audit --no-fund "@copilotkit/aimock@$AIMOCK_VERSION"
}

has python3 || fail 'python3 is missing'
has node && has npm || fail 'node or npm is missing'
install_once "$TOOLS/litellm/.installed-$LITELLM_VERSION" "LiteLLM $LITELLM_VERSION from PyPI" install_litellm
install_once "$TOOLS/aimock/.installed-$AIMOCK_VERSION" "aimock $AIMOCK_VERSION from npm" install_aimock

# Settings of this shell must not reach the judges' configuration, nor give LiteLLM a database.
ours='ASSIZE__[A-Za-z0-9_]*|ASSIZE_CONFIG|OPENAI_[A-Z_]*|LITELLM_[A-Z_]*|DATABASE_URL'
for name in $(env | sed -nE "s/^($ours)=.*/\1/p"); do
    unset "$name"
done
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 PYTHONDONTWRITEBYTECODE=1

dir=$(mktemp -d)
litellm_pid='' aimock_pid=''
stop() {
    for pid in $litellm_pid $aimock_pid; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $litellm_pid $aimock_pid; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until a command succeeds, as long as the server lives: NAME PID LOG COMMAND….
until_ready() {
    name=$1 pid=$2 log=$3
    shift 3
    waited=0
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$waited" -ge "$READY_SECONDS" ]; then
            tail -n 20 "$log" >&2
            fail "$name did not start"
        fi
        sleep 1
        waited=$((waited + 1))
    done
}
answers() {
    python3 -c 'import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=5)' "$1"
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
INTEROP_KEY=sk-$(python3 -c 'import secrets; print(secrets.token_hex(16))')
INTEROP_REQUESTS=$dir/requests.jsonl
export INTEROP_KEY INTEROP_REQUESTS
: >"$INTEROP_REQUESTS"

say 'starting the LiteLLM proxy and aimock'
LITELLM_LOCAL_MODEL_COST_MAP=True "$TOOLS/litellm/bin/litellm" --config "$HERE/litellm.yaml" --host 127.0.0.1 \
    --port "$port" --telemetry False >"$dir/litellm.log" 2>&1 &
litellm_pid=$!
node "$HERE/aimock_judge.mjs" "$TOOLS/aimock" "$dir/aimock.url" >"$dir/aimock.log" 2>&1 &
aimock_pid=$!
until_ready aimock "$aimock_pid" "$dir/aimock.log" test -s "$dir/aimock.url"
until_ready LiteLLM "$litellm_pid" "$dir/litellm.log" answers "http://127.0.0.1:$port/health/liveliness"

cat >"$dir/assize.toml" <<CONF
[judges.litellm]
model = "interop-judge"
base_url = "http://127.0.0.1:$port/v1"
api_key_env = "INTEROP_KEY"
[judges.aimock]
model = "interop-judge"
base_url = "$(cat "$dir/aimock.url")/v1"
api_key_env = "INTEROP_KEY"
[panels]
default = ["litellm", "aimock"]
CONF

assize() {
    if [ -n "${ASSIZE:-}" ]; then
        "$ASSIZE" "$@"
    elif [ -x target/release/assize ]; then
        target/release/assize "$@"
    else
        cargo run --release --quiet -- "$@"
    fi
}
say 'judging'
assize eval "$HERE/traces.jsonl" --config "$dir/assize.toml" --rubrics "$HERE/rubrics" \
    --out "$dir/verdicts.jsonl" --json ||
    fail "assize eval failed with exit code $?"
[ -s "$dir/verdicts.jsonl" ] || fail 'assize eval wrote no verdicts'
status=0
python3 "$HERE/check.py" "$HERE/traces.jsonl" "$dir/verdicts.jsonl" "$INTEROP_REQUESTS" || status=$?
if [ "$status" != 0 ]; then
    for log in litellm aimock; do
        say "the last lines of $log:"
        tail -n 20 "$dir/$log.log" >&2
    done
fi
exit "$status"
