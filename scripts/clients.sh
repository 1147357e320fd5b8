#!/bin/sh
# Real clients from PyPI, each an application that asks a simulated model and sends its trace to a running service: OpenTelemetry
# over HTTP and gRPC, OpenInference, Traceloop, Langfuse, ddtrace as to the intake and as to an Agent.
#
#   scripts/clients.sh                 installs them under target/clients when they are absent, then runs
#   ASSIZE=path scripts/clients.sh     with that program instead of target/debug/assize
#   scripts/clients.sh otel-grpc …     only these clients
#
# Needs python3. Prints a table, then one JSON object with the figures; fails unless every trace was assembled with question
# and answer and judged.
set -eu
cd "$(dirname "$0")/.."

TOOLS=${CLIENTS_TOOLS:-target/clients}
HERE=scripts/clients
ASSIZE=${ASSIZE:-target/debug/assize}
READY_SECONDS=120
# One client at most this long: imports are slow on a busy machine.
CLIENT_SECONDS=180

# They are installed apart, since each pins versions of the others' parts.
OTEL="openai==3.54.0 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp==1.45.2 opentelemetry-instrumentation-openai-v2==2.4b0
    opentelemetry-util-genai==0.4b0 openinference-instrumentation-openai==0.1.66 langfuse==3.15.0"
TRACELOOP="openai==2.54.0 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
    opentelemetry-instrumentation-openai==0.62.4"
DDTRACE="openai==3.54.0 ddtrace==4.16.0"

say() { printf 'clients: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

command -v python3 >/dev/null 2>&1 || fail 'python3 is missing'
[ -x "$ASSIZE" ] || fail "$ASSIZE is not built; run cargo build, or name the program with ASSIZE=path"

# Which installation a client is in.
place_of() {
    case $1 in
    otel-* | openinference | langfuse) echo otel ;;
    ddtrace-*) echo ddtrace ;;
    *) echo "$1" ;;
    esac
}
packages_of() {
    case $1 in
    otel) echo "$OTEL" ;;
    traceloop) echo "$TRACELOOP" ;;
    ddtrace) echo "$DDTRACE" ;;
    *) fail "there is no client $1" ;;
    esac
}
# A mark, named by what was asked for, tells a whole installation from a broken-off or an older one.
install() {
    packages=$(packages_of "$1")
    mark=$TOOLS/$1/.installed-$(printf '%s' "$packages" | cksum | cut -d ' ' -f 1)
    [ ! -e "$mark" ] || return 0
    say "installing $1 under $TOOLS (a minute or so)"
    rm -rf "${TOOLS:?}/$1"
    mkdir -p "$TOOLS"
    python3 -m venv "$TOOLS/$1" || fail 'python3 cannot make a virtual environment (python3-venv)'
    # shellcheck disable=SC2086 # several words are meant
    "$TOOLS/$1/bin/python" -m pip install --quiet --disable-pip-version-check $packages 2>"$TOOLS/$1.log" || {
        tail -n 20 "$TOOLS/$1.log" >&2
        fail "cannot install $1; is there a network?"
    }
    : >"$mark"
}

clients=${*:-otel-http otel-grpc openinference traceloop langfuse ddtrace-agentless ddtrace-agent}
for client in $clients; do
    install "$(place_of "$client")"
done

# Settings of this shell must reach neither the program nor the clients.
ours='ASSIZE__[A-Za-z0-9_]*|ASSIZE_CONFIG|DATABASE_URL|(OPENAI|DD|OTEL|LANGFUSE|TRACELOOP)_[A-Z_]*'
for name in $(env | sed -nE "s/^($ours)=.*/\1/p"); do
    unset "$name"
done
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 PYTHONDONTWRITEBYTECODE=1
export DD_INSTRUMENTATION_TELEMETRY_ENABLED=0 DD_REMOTE_CONFIGURATION_ENABLED=0 DD_TRACE_STARTUP_LOGS=0

dir=$(mktemp -d)
# Postgres refuses to run as root and then runs as somebody else, who must be able to come in here.
chmod 755 "$dir"
pids=''
stop() {
    # shellcheck disable=SC2086 # several words are meant
    for pid in $pids; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $pids; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_ports() {
    python3 -c 'import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))' "$1"
}
answers() {
    python3 -c 'import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=5)' "$1"
}
# Waits until a command succeeds, as long as the process lives: NAME PID LOG COMMAND….
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

# shellcheck disable=SC2046 # several words are meant
set -- $(free_ports 4)
sim=http://127.0.0.1:$1
DOOR_URL=http://127.0.0.1:$2 GRPC_URL=http://127.0.0.1:$3 AGENT_URL=http://127.0.0.1:$4
DOOR_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
LLM_URL=$sim/v1
export DOOR_URL GRPC_URL AGENT_URL DOOR_TOKEN LLM_URL
mkdir "$dir/rubrics"
cp "$HERE/seen.yaml" "$dir/rubrics"
: >"$dir/requests.jsonl"

say 'starting the simulated model, the recorder of what judges read, and the service'
"$ASSIZE" sim --port "$1" >"$dir/sim.log" 2>&1 &
pids=$!
until_ready 'the simulated model' "$!" "$dir/sim.log" answers "$sim/health"
python3 "$HERE/recorder.py" "$sim" "$dir/requests.jsonl" "$dir/recorder.url" >"$dir/recorder.log" 2>&1 &
pids="$pids $!"
until_ready 'the recorder' "$!" "$dir/recorder.log" test -s "$dir/recorder.url"

common() {
    cat <<CONF
[database]
private_dir = "$dir/postgres"
[rubrics]
dir = "$dir/rubrics"
[assembly]
quiet_ms = 4000
idle_ms = 6000
tick_ms = 100
[judges.sim]
model = "sim-large"
base_url = "$(cat "$dir/recorder.url")/v1"
CONF
}
cat >"$dir/assize.toml" <<CONF
[server]
listen = "${DOOR_URL#http://}"
grpc_listen = "${GRPC_URL#http://}"
[[server.tokens]]
name = "clients"
token_env = "DOOR_TOKEN"
scopes = ["ingest", "read"]
$(common)
CONF
# An ddtrace that takes us for its Agent gives no key, so it needs a door without tokens.
cat >"$dir/agent.toml" <<CONF
[server]
listen = "${AGENT_URL#http://}"
grpc_listen = "off"
$(common)
CONF
"$ASSIZE" serve --config "$dir/assize.toml" >"$dir/serve.log" 2>&1 &
pids="$! $pids"
until_ready 'the service' "$!" "$dir/serve.log" answers "$DOOR_URL/readyz"
"$ASSIZE" serve --config "$dir/agent.toml" --roles ingest >"$dir/agent.log" 2>&1 &
pids="$! $pids"
until_ready 'the door without tokens' "$!" "$dir/agent.log" answers "$AGENT_URL/readyz"

: >"$dir/sent.jsonl"
for client in $clients; do
    say "$client sends"
    timeout "$CLIENT_SECONDS" "$TOOLS/$(place_of "$client")/bin/python" "$HERE/send.py" "$client" \
        >"$dir/$client.out" 2>"$dir/$client.log" || {
        tail -n 15 "$dir/$client.log" >&2
        say "$client failed"
    }
    # Some SDKs print more than they are asked.
    grep '^{"client"' "$dir/$client.out" >>"$dir/sent.jsonl" || true
done
status=0
# shellcheck disable=SC2086 # several words are meant
python3 "$HERE/check.py" "$dir/sent.jsonl" "$dir/requests.jsonl" $clients || status=$?
if [ "$status" != 0 ]; then
    for log in serve agent; do
        say "the last lines of $log:"
        tail -n 15 "$dir/$log.log" >&2
    done
fi
exit "$status"
