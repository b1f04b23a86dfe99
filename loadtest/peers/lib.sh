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

# driver GROUP:ARTIFACT:VERSION LOG: fetches a JDBC driver from Maven's repository, once a version, and prints the path of its archive.
driver() {
  local artifact=$1 log=$peers_dir/$2 archive
  need java "install a Java development kit, 17 or newer (Debian: default-jdk-headless) to run the tests with JDBC"
  need mvn "install Maven (Debian: maven) to run the tests with JDBC"
  # The test is one source file, which only a development kit runs.
  java --list-modules 2>/dev/null | grep -q '^jdk.compiler@' ||
    missing "\`java\` is no development kit: install one, 17 or newer (Debian: default-jdk-headless)"
  archive=${artifact#*:}
  archive=$peers_dir/${archive/:/-}.jar
  if [ ! -f "$archive" ]; then
    quietly "$log" mvn --batch-mode --quiet dependency:get "-Dartifact=$artifact" -Dtransitive=false
    quietly "$log" mvn --batch-mode --quiet dependency:copy "-Dartifact=$artifact" "-DoutputDirectory=$peers_dir" \
      -Dmdep.overWriteReleases=true
  fi
  echo "$archive"
}
