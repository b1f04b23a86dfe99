#!/usr/bin/env bash
# Fetches Postgres' JDBC driver, once a version, and prints the path of its archive.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

driver "org.postgresql:postgresql:$PGJDBC_VERSION" pgjdbc.log
