#!/bin/sh
# pgbench: TPC-B in its three modes, select only, a pipeline; what it says of itself and of the data.
set -u
export LC_ALL=C.UTF-8
say() { printf '%s\t' "$1"; shift; "$@" 2>&1 | sed ':a;N;$!ba;s/\n/\\n/g'; }
facts() { grep -E 'actually processed|failed transactions|query mode|ERROR|FATAL|aborted'; }
run() { pgbench -n -c 4 -t 25 "$@" 2>&1 | facts; }
say initialised sh -c 'pgbench -i -q -s 1 2>&1 | grep -E "ERROR|FATAL|^creating|^done" | sed "s/done in.*/done/"'
for mode in simple extended prepared; do
  say "TPC-B $mode" run -M $mode
  say "select only $mode" run -M $mode -S
done
sums="SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches), count(*) FROM pgbench_history"
say 'balances agree' psql -XAtc "$sums"
script=$(mktemp)
printf '\\startpipeline\nSELECT 1;\nSELECT 2;\nINSERT INTO pgbench_history (tid) VALUES (0);\nSELECT 3;\n\\endpipeline\n' > "$script"
chmod a+r "$script"
say pipelining run -M extended -f "$script"
say 'pipelining prepared' run -M prepared -f "$script"
rm -f "$script"
psql -qXAtc 'DROP TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers'
