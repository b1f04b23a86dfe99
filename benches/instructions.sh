#!/bin/sh
# Counts instructions a row of what `encode_rows` does, under callgrind: the same on a busy machine and an idle one.
# Usage: benches/instructions.sh [traces|logs|metrics].. ; needs valgrind. Builds nothing where ENCODE_ROWS names the bench.
set -eu
bench=${ENCODE_ROWS:-$(cargo bench --no-run -p plimsoll-benches --bench encode_rows 2>&1 | sed -n 's/.*(\(.*encode_rows-[0-9a-f]*\)).*/\1/p')}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
count() {
    valgrind --tool=callgrind --callgrind-out-file="$out/$1-$2" "$bench" "$1" "$2" 1 2>"$out/log" >"$out/said"
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$out/log"
}
printf '%-8s %-8s %12s %14s\n' rows way 'instr / row' 'bytes / row'
for signal in "${@:-traces logs metrics}"; do
    for signal in $signal; do
        made=$(count "$signal" nothing)
        for way in segment library; do
            all=$(count "$signal" "$way")
            set -- $(cat "$out/said")
            printf '%-8s %-8s %12d %14s\n' "$signal" "$way" $(((all - made) / $2)) "$(echo "scale=1; $6 / $2" | bc)"
        done
    done
done
