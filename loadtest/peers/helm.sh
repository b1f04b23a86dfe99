#!/usr/bin/env bash
# Builds Helm from its Go module, once a version, and prints the path of the binary.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bin=$peers_dir/bin-helm-$HELM_VERSION
if [ ! -x "$bin/helm" ]; then
  need go "install Go 1.26 or newer to have Helm check the chart"
  GOBIN=$bin quietly "$peers_dir/helm.log" go install "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
fi
echo "$bin/helm"
