#!/usr/bin/env bash
# Makes a Python environment with DuckDB (and pytz, without which it gives no times with a zone), once a version, and prints its interpreter.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

venv=$peers_dir/duckdb-$DUCKDB_VERSION
if [ ! -f "$venv/ready" ]; then
  need python3 "install Python 3.10 or newer with its venv module to read segments with DuckDB"
  rm -rf "$venv"
  # Some systems split venv off; without it ensurepip fails.
  quietly "$peers_dir/duckdb.log" python3 -m venv "$venv" ||
    missing "\`python3 -m venv\` does not work: install the package that holds it (Debian: python3-venv)"
  quietly "$peers_dir/duckdb.log" "$venv/bin/python" -m pip install --quiet "duckdb==$DUCKDB_VERSION" pytz
  touch "$venv/ready"
fi
echo "$venv/bin/python"
