#!/usr/bin/env bash
# Builds telemetrygen from its Go module, once a version, and prints the path of the binary.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bin=$peers_dir/bin-$COLLECTOR_VERSION
if [ ! -x "$bin/telemetrygen" ]; then
  need go "install Go 1.26 or newer to run the tests against telemetrygen"
  GOBIN=$bin quietly "$peers_dir/telemetrygen.log" \
    go install "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@$COLLECTOR_VERSION"
fi
echo "$bin/telemetrygen"
