#!/bin/sh
# Pairs for configs/sweeps/findings.toml: of the first 4, 8 and 12 samples per name of the test bed, by darkness.
#     sh tools/findings_pairs.sh [PROGRAM]
set -eu
program=${1:-target/release/diffpref}
out=runs/findings
"$program" score assets/testbed/samples.jsonl --scorer background --out "$out/scored"
for n in 4 8 12; do
    # The id of a sample ends with its number. Paths in the file are relative to it.
    awk -v n="$n" 'match($0, /"id": ?"[^"]*"/) { id = substr($0, RSTART, RLENGTH - 1); sub(/.*-/, "", id); if (id + 0 < n) print }' \
        "$out/scored/scores.jsonl" > "$out/scored/first-$n.jsonl"
    for rule in best_worst mu_2sigma; do
        "$program" pairs "$out/scored/first-$n.jsonl" --by background.darkness --rule "$rule" --out "$out/$rule-$n"
    done
done
