#!/usr/bin/env bash
# Makes a Python environment with the OpenTelemetry SDK and its OTLP exporters, once a version, and prints its interpreter.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

venv=$peers_dir/python-$OTEL_PYTHON_VERSION
if [ ! -f "$venv/ready" ]; then
  need python3 "install Python 3.10 or newer with its venv module to run the tests against the Python SDK"
  rm -rf "$venv"
  # Some systems split venv off; without it ensurepip fails.
  quietly "$peers_dir/python.log" python3 -m venv "$venv" ||
    missing "\`python3 -m venv\` does not work: install the package that holds it (Debian: python3-venv)"
  quietly "$peers_dir/python.log" "$venv/bin/python" -m pip install --quiet \
    "opentelemetry-sdk==$OTEL_PYTHON_VERSION" \
    "opentelemetry-exporter-otlp-proto-grpc==$OTEL_PYTHON_VERSION" \
    "opentelemetry-exporter-otlp-proto-http==$OTEL_PYTHON_VERSION"
  touch "$venv/ready"
fi
echo "$venv/bin/python"
