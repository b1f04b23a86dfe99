#!/usr/bin/env bash
# Makes a Python environment with ClickHouse's engine in process (chdb), once a version, and prints its interpreter.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

venv=$peers_dir/clickhouse-$CHDB_VERSION
if [ ! -f "$venv/ready" ]; then
  need python3 "install Python 3.10 or newer with its venv module to compare with ClickHouse"
  rm -rf "$venv"
  quietly "$peers_dir/clickhouse.log" python3 -m venv "$venv" ||
    missing "\`python3 -m venv\` does not work: install the package that holds it (Debian: python3-venv)"
  quietly "$peers_dir/clickhouse.log" "$venv/bin/python" -m pip install --quiet "chdb==$CHDB_VERSION"
  touch "$venv/ready"
fi
echo "$venv/bin/python"
