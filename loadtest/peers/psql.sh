#!/usr/bin/env bash
# Prints the path of psql, the client of Postgres, which comes from the system's packages.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need psql "install the client of Postgres (Debian: postgresql-client) to run the tests with psql"
# A wrapper may stand in the path without any client behind it.
psql --version >/dev/null 2>&1 || missing "\`psql\` does not run: install the client of Postgres (Debian: postgresql-client)"
command -v psql
