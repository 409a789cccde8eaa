# Settings of the conformance suites; every one can be set from outside. Sourced by the other scripts.
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
LAB_DIR="${LAB_DIR:-${TMPDIR:-/tmp}/image-conformance}"
IMAGE_URL="${IMAGE_URL:-http://127.0.0.1:9292}"            # the server under test: its root, without /v2
KEYSTONE_PORT="${KEYSTONE_PORT:-25000}"
WEB_PORT="${WEB_PORT:-29295}"                              # loopback files for web-download
PYTHON="${PYTHON:-python3}"                                # 3.10 or newer
PASSWORD="${PASSWORD:-lab-secret}"                         # of every user here
REGION="${REGION:-RegionOne}"
CONCURRENCY="${CONCURRENCY:-2}"
KEYSTONE_URL="http://127.0.0.1:$KEYSTONE_PORT/v3"
WEB_URL="http://127.0.0.1:$WEB_PORT"
VENV="$LAB_DIR/venv"
LOG="$LAB_DIR/log"; RUN="$LAB_DIR/run"; RESULTS="$LAB_DIR/results"
SERVER_PACKAGES="${SERVER_PACKAGES:-keystone==30.0.0 gunicorn}"
SUITE_PACKAGES="${SUITE_PACKAGES:-tempest==47.0.0 glance-tempest-plugin==0.17.0 stestr oslotest testscenarios ddt requests-mock}"
CLIENT_PACKAGES="${CLIENT_PACKAGES:-openstacksdk==4.22.0 python-openstackclient==10.5.0 python-glanceclient==4.13.0}"
GOPHERCLOUD="${GOPHERCLOUD:-v2.16.0}"
mkdir -p "$LAB_DIR" "$LOG" "$RUN" "$RESULTS"
export LAB_DIR IMAGE_URL KEYSTONE_URL WEB_URL PASSWORD REGION

render() { # template target [NAME=value ...]: replaces @NAME@
  local from="$1" to="$2" edits=(); shift 2
  for pair in "$@" LAB_DIR="$LAB_DIR" KEYSTONE_URL="$KEYSTONE_URL" KEYSTONE_PORT="$KEYSTONE_PORT" IMAGE_URL="$IMAGE_URL" \
      WEB_URL="$WEB_URL" PASSWORD="$PASSWORD" REGION="$REGION"; do
    edits+=(-e "s|@${pair%%=*}@|${pair#*=}|g")
  done
  sed "${edits[@]}" "$from" > "$to"
}
alive() { [ -f "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
halt() { # name: end what this lab started under that name
  alive "$1" || return 0
  kill -TERM "$(cat "$RUN/$1.pid")"
  for _ in $(seq 1 150); do alive "$1" || break; sleep 0.2; done
  rm -f "$RUN/$1.pid"
}
await() { # url log: until it answers at all
  for _ in $(seq 1 100); do curl -sf -o /dev/null --max-time 2 "$1" && return 0; sleep 0.2; done
  echo "no answer from $1" >&2; tail -20 "$2" >&2; return 1
}
