#!/usr/bin/env bash
# Builds an OpenTelemetry Collector from its Go modules, once a version, and prints the path of the binary.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$peers_dir/collector-$COLLECTOR_VERSION
manifest=$peers_src/collector-builder.yaml
stamp=$out/manifest.sha256
sum=$(sha256sum "$manifest" | cut -d' ' -f1)
if [ -x "$out/otelcol-peer" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
  echo "$out/otelcol-peer"
  exit 0
fi
need go "install Go 1.26 or newer to run the tests against a real Collector"

work=$(mktemp -d "$peers_dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
builder=$peers_dir/bin-$COLLECTOR_VERSION/builder
if [ ! -x "$builder" ]; then
  GOBIN=$(dirname "$builder") quietly "$peers_dir/builder.log" \
    go install "go.opentelemetry.io/collector/cmd/builder@$COLLECTOR_VERSION"
fi
sed -e "s|@VERSION@|$COLLECTOR_VERSION|" -e "s|@OUTPUT@|$work|" "$manifest" >"$work/builder.yaml"
quietly "$peers_dir/collector.log" "$builder" --config "$work/builder.yaml"
mkdir -p "$out"
# Renamed into place last, so that a build that was stopped half-way is not taken for a finished one.
mv "$work/otelcol-peer" "$out/otelcol-peer.new"
mv "$out/otelcol-peer.new" "$out/otelcol-peer"
echo "$sum" >"$stamp"
echo "$out/otelcol-peer"
