#!/usr/bin/env bash
# Makes a Python environment with the clients that query a server, once per set of versions, and prints its interpreter.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

venv=$peers_dir/clients-$PSYCOPG_VERSION-$ADBC_VERSION-$PYARROW_VERSION-$DUCKDB_VERSION
if [ ! -f "$venv/ready" ]; then
  need python3 "install Python 3.10 or newer with its venv module to run the tests with psycopg, ADBC and DuckDB"
  rm -rf "$venv"
  quietly "$peers_dir/clients.log" python3 -m venv "$venv" ||
    missing "\`python3 -m venv\` does not work: install the package that holds it (Debian: python3-venv)"
  quietly "$peers_dir/clients.log" "$venv/bin/python" -m pip install --quiet \
    "psycopg[binary]==$PSYCOPG_VERSION" \
    "adbc_driver_manager==$ADBC_VERSION" \
    "adbc_driver_flightsql==$ADBC_VERSION" \
    "pyarrow==$PYARROW_VERSION" \
    "duckdb==$DUCKDB_VERSION"
  touch "$venv/ready"
fi
echo "$venv/bin/python"
