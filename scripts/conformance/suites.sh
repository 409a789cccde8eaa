#!/usr/bin/env bash
# Runs suites against $IMAGE_URL (Keystone must run: keystone.sh start). One line a suite: NAME passed/failed/skipped seconds.
#   suites.sh [NAME ...]      default: all of them, in this order
#     tempest-true    lists/tempest.txt, tempest told that the server enforces formats (skips the 17 list tests)
#     tempest-lists   those 17 with raw as the only format: so they run against a server that enforces
#     tempest-images  image format tests without a Nova (their class wants one only on paper)
#     rbac            glance-tempest-plugin, 42 image tests
#     sdk osc glanceclient gophercloud gophercloud-tasks
#   only when named:
#     tempest-false   as tempest-true, told that formats are not enforced (a server that does enforce fails 17 by design)
#     tempest-remote  stage at one worker, import and delete at another (REMOTE_URL=its URL)
#   suites.sh serve     loopback files      suites.sh prepare   also an image named cirros-lab      suites.sh stop   the file server
#   suites.sh clean     deletes every image of the server but cirros-lab (left-over private ones fail a glanceclient test)
# Results: $LAB_DIR/results/NAME.txt (every test, with reasons)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export HOME_OF_USER="$HOME" HOME="$LAB_DIR/home" PATH="$VENV/bin:$PATH" PYTHON="$VENV/bin/python"   # stestr starts $PYTHON
SITE="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"

serve() {
  if ! alive web; then
    "$VENV/bin/python" "$HERE/web.py" files "$LAB_DIR/web"
    setsid "$VENV/bin/python" "$HERE/web.py" serve "$LAB_DIR/web" "$WEB_PORT" > "$LOG/web.log" 2>&1 < /dev/null &
    echo $! > "$RUN/web.pid"; await "$WEB_URL/manifest.yaml" "$LOG/web.log"
  fi
}
prepare() {
  serve
  REMOTE_URL="${REMOTE_URL:-}" "$VENV/bin/python" "$HERE/provision.py" > /dev/null
  OS_CLOUD=devstack-admin openstack image show cirros-lab > /dev/null 2>&1 || OS_CLOUD=devstack-admin openstack image create --public \
    --disk-format qcow2 --container-format bare --file "$LAB_DIR/web/empty.qcow2" cirros-lab > /dev/null
}

with_stestr() { # suite dir include-list: expects .stestr.conf or STESTR options in $STESTR; runs, sums up
  local suite="$1" dir="$2" list="$3" began=$SECONDS
  cd "$dir"; rm -rf .stestr; stestr init
  # shellcheck disable=SC2086
  stestr $STESTR list --include-list "$list" > "$RESULTS/$suite.expected" 2> "$LOG/$suite.list.log" || true
  # shellcheck disable=SC2086
  stestr $STESTR run --concurrency "${SUITE_CONCURRENCY:-$CONCURRENCY}" --include-list "$list" > "$LOG/$suite.log" 2>&1 || true
  # shellcheck disable=SC2086
  echo "$(stestr $STESTR last --subunit | "$VENV/bin/python" "$HERE/summary.py" "$suite" "$RESULTS/$suite.txt" "$RESULTS/$suite.expected") $((SECONDS - began)) s" \
    | tee "$RESULTS/$suite.sum"
}

tempest_suite() { # suite list enforcement [disk_formats] [nova and conversion]
  local dir="$LAB_DIR/run/$1"
  mkdir -p "$dir" "$LAB_DIR/run/tempest-locks"
  render "$HERE/templates/tempest.conf" "$dir/tempest.conf" ENFORCEMENT="$3" DISK_FORMATS="${4:-raw,qcow2,vmdk,vdi,iso,vhdx,vhd}" \
    NOVA="${5:-False}" CONVERSION="${5:-False}" ALTERNATE="${REMOTE_URL:+alternate_image_endpoint = image_remote}"
  printf '[DEFAULT]\ntest_path=%s/tempest/test_discover\ntop_dir=%s\ngroup_regex=([^\\.]*\\.)*\n' "$SITE" "$SITE" > "$dir/.stestr.conf"
  STESTR="" TEMPEST_CONFIG_DIR="$dir" TEMPEST_CONFIG=tempest.conf with_stestr "$1" "$dir" "$2"
}

gophercloud_suite() { # suite pattern
  local began=$SECONDS dir="$LAB_DIR/src/gophercloud" log="$LOG/$1.log" from
  export HOME="$HOME_OF_USER"
  if [ ! -d "$dir" ]; then                                  # the acceptance tests are an internal package: they need the whole module
    mkdir -p "$dir.get"; cd "$dir.get"; printf 'module x\ngo 1.24\n' > go.mod
    from="$(go mod download -json "github.com/gophercloud/gophercloud/v2@$GOPHERCLOUD" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')"
    cp -r "$from" "$dir"; chmod -R u+w "$dir"; rm -r "$dir.get"
  fi
  cd "$dir/internal/acceptance/openstack/image/v2"
  sed -i "s|^const ImportImageURL = .*|const ImportImageURL = \"$WEB_URL/empty.qcow2\"|" imageservice.go
  # shellcheck disable=SC1091
  . "$LAB_DIR/home/openrc"; export OS_DOMAIN_ID=default
  go test -count=1 -tags acceptance -v -run "$2" . > "$log" 2>&1 || true
  grep -E '^--- |^FAIL|build failed' "$log" > "$RESULTS/$1.txt" || true
  count() { grep -c "^--- $1" "$log" || true; }
  echo "$1 $(count PASS)/$(count FAIL)/$(count SKIP) $((SECONDS - began)) s" | tee "$RESULTS/$1.sum"
}

one() {
  case "$1" in
    tempest-true) tempest_suite "$1" "$HERE/lists/tempest.txt" True;;
    tempest-false) tempest_suite "$1" "$HERE/lists/tempest.txt" False;;
    tempest-lists) tempest_suite "$1" "$HERE/lists/lists.txt" False raw;;
    tempest-images) tempest_suite "$1" "$HERE/lists/formats.txt" True "" True;;
    tempest-remote) tempest_suite "$1" "$HERE/lists/remote.txt" True;;
    rbac) tempest_suite "$1" "$HERE/lists/rbac.txt" True;;
    sdk) SUITE_CONCURRENCY=1 STESTR="--test-path ./openstack/tests/functional --top-dir ./" OS_TEST_TIMEOUT=300 OPENSTACKSDK_FUNC_TEST_TIMEOUT=120 \
      with_stestr sdk "$LAB_DIR/src/openstacksdk" "$HERE/lists/sdk.txt";;
    osc) STESTR="--test-path ./openstackclient/tests/functional --top-dir ./" \
      with_stestr osc "$LAB_DIR/src/python-openstackclient" "$HERE/lists/osc.txt";;
    glanceclient) STESTR="--test-path ./glanceclient/tests/functional/v2 --top-dir ./" OS_GLANCECLIENT_EXEC_DIR="$VENV/bin" \
      with_stestr glanceclient "$LAB_DIR/src/python-glanceclient" "$HERE/lists/glanceclient.txt";;
    gophercloud) gophercloud_suite "$1" 'TestImage|TestGetImportInfo|TestCreateImport';;
    gophercloud-tasks) gophercloud_suite "$1" 'TestTask';;
    *) sed -n 2,15p "${BASH_SOURCE[0]}"; exit 2;;
  esac
}

case "${1:-}" in
  serve) serve; exit;;
  prepare) prepare; exit;;
  stop) halt web; exit;;
  clean) "$VENV/bin/python" "$HERE/provision.py" clean; exit;;
esac
[ $# -gt 0 ] || set -- tempest-true tempest-lists tempest-images rbac sdk osc glanceclient gophercloud gophercloud-tasks
prepare
for suite in "$@"; do (one "$suite"); done
