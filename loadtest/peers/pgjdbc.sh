#!/usr/bin/env bash
# Fetches Postgres' JDBC driver, once a version, and prints the path of its archive.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need java "install a Java development kit, 17 or newer (Debian: default-jdk-headless) to run the tests with JDBC"
need mvn "install Maven (Debian: maven) to run the tests with JDBC"
# The test is one source file, which only a development kit runs.
java --list-modules 2>/dev/null | grep -q '^jdk.compiler@' ||
  missing "\`java\` is no development kit: install one, 17 or newer (Debian: default-jdk-headless)"
driver=$peers_dir/postgresql-$PGJDBC_VERSION.jar
if [ ! -f "$driver" ]; then
  quietly "$peers_dir/pgjdbc.log" mvn --batch-mode --quiet dependency:get \
    "-Dartifact=org.postgresql:postgresql:$PGJDBC_VERSION" -Dtransitive=false
  quietly "$peers_dir/pgjdbc.log" mvn --batch-mode --quiet dependency:copy \
    "-Dartifact=org.postgresql:postgresql:$PGJDBC_VERSION" "-DoutputDirectory=$peers_dir" \
    -Dmdep.overWriteReleases=true
fi
echo "$driver"
