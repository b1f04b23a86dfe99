#!/usr/bin/env bash
# Builds Mira and its load generator from crates.io, once a version, and prints the path of the server; `loadgen` lies beside it.
#
# Only the comparison needs it (`plimsoll-loadtest compare`), so that `./check` does not prepare it: a build takes minutes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$peers_dir/mira-$MIRA_VERSION
if [ -x "$out/bin/mira" ] && [ -x "$out/bin/loadgen" ]; then
  echo "$out/bin/mira"
  exit 0
fi
need cargo "install Rust to compare with Mira"

# The settings that its authors publish it with: a peer is measured at its best.
export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_PANIC=abort
# The server and the example come from one build directory, outside of any workspace.
work=$(mktemp -d "$peers_dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
CARGO_TARGET_DIR=$work/target quietly "$peers_dir/mira.log" nice -n 10 \
  cargo install "miradb@$MIRA_VERSION" --locked --bin mira --example loadgen --root "$work/root" ||
  missing "\`miradb\` $MIRA_VERSION could not be built from crates.io"
rm -rf "$out"
mv "$work/root" "$out"
echo "$out/bin/mira"
