# Sourced by the scripts beside it: where peers are kept, and how a missing tool is reported.
#
# Exit code 77 means "skipped, a tool is missing"; on CI (CI=true) the same is a failure, so that nothing is skipped there.

set -euo pipefail

peers_src=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
source "$peers_src/versions.env"

peers_dir=${PLIMSOLL_CACHE:-$HOME/.cache/plimsoll}/peers
mkdir -p "$peers_dir"

# need TOOL HINT: leaves the script with the skip code where TOOL is not to be had.
need() {
  command -v "$1" >/dev/null 2>&1 && return 0
  missing "\`$1\` is not installed: $2"
}

# missing MESSAGE: says why the peer cannot be prepared and leaves.
missing() {
  echo "skipped: $1" >&2
  if [ "${CI:-}" = true ]; then
    echo "CI=true allows no skipped peer" >&2
    exit 1
  fi
  exit 77
}

# quietly LOG COMMAND..: runs a long command and shows its output only where it fails.
quietly() {
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "failed: $* (whole output in $log)" >&2
    return 1
  fi
}
