#!/usr/bin/env bash
# Takes rotel's agent out of its wheel on PyPI, once a version, and prints the path of the binary.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$peers_dir/rotel-$ROTEL_VERSION
agent=$out/rotel/rotel-agent
if [ ! -x "$agent" ]; then
  need python3 "install Python 3.10 to 3.13 with pip to compare with rotel"
  work=$(mktemp -d "$peers_dir/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  quietly "$peers_dir/rotel.log" python3 -m pip install --quiet --no-deps --target "$work/site" "rotel==$ROTEL_VERSION" ||
    missing "PyPI has no wheel of \`rotel\` $ROTEL_VERSION for this Python and machine"
  chmod +x "$work/site/rotel/rotel-agent"
  # Its library may be newer than this machine's.
  "$work/site/rotel/rotel-agent" --version >>"$peers_dir/rotel.log" 2>&1 ||
    missing "the \`rotel\` agent does not run here: see $peers_dir/rotel.log"
  rm -rf "$out"
  mv "$work/site" "$out"
fi
echo "$agent"
