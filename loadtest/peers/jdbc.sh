#!/usr/bin/env bash
# Fetches Arrow's JDBC driver for Flight SQL, once a version, and prints the path of its archive.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

driver "org.apache.arrow:flight-sql-jdbc-driver:$ARROW_JDBC_VERSION" jdbc.log
