#!/bin/sh
# psql: every feature once; run directly and through, the lines must be equal.
set -u
export PSQLRC=/dev/null PAGER=cat LC_ALL=C.UTF-8
say() { printf '%s\t' "$1"; shift; "$@" 2>&1 | sed 's/^psql:[^:]*:/psql:/' | sed ':a;N;$!ba;s/\n/\\n/g'; }
# Which line of the server's source raised a syntax error is not known to regate: not compared.
run() { psql -X -v VERBOSITY=verbose "$@" 2>&1 | sed '/^LOCATION:/d'; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
run -qAtc 'DROP TABLE IF EXISTS drv' 2>/dev/null
simple() { run -c "SELECT 1 AS a, 'ä€' AS b, NULL AS c" -c 'SELECT 1; SELECT 2'; echo 'SELECT 1 AS one \gdesc' | run; }
describe() {
  run <<'SQL'
CREATE TABLE drv (id int PRIMARY KEY, body text DEFAULT 'x' CHECK (body <> ''), n int GENERATED ALWAYS AS (id * 2) STORED);
CREATE INDEX drv_body ON drv (body);
CREATE VIEW drv_view AS SELECT id FROM drv;
\d
\d drv
\d+ drv
\d drv_view
\sv drv_view
\dt
\di
\df abs
\du postgres
\dn
\l template0
\dp drv
\dT+ citext
\do ||
\dx
SQL
}
copies() {
  printf '1\tone\n2\t\\N\n' > "$temp/in"
  printf '9\tnine\nx\ty\n' > "$temp/bad"
  run <<SQL
\copy drv (id, body) FROM '$temp/in'
\copy drv (id, body) FROM '$temp/bad'
\copy drv TO '$temp/out' CSV HEADER
\! cat '$temp/out'
COPY drv (id, body) FROM STDIN;
5	five
\.
COPY (SELECT * FROM drv ORDER BY id) TO STDOUT;
SQL
}
watch() { (echo 'SELECT 1 AS one'; echo '\watch 0.2') | timeout -s INT 1.1 psql -XAt | sed 's/^.*(every.*$//' | grep -vE '^(Cancel request sent)?$' | sort | uniq | head -3; }
transactions() {
  run <<'SQL'
\set PROMPT1 '%x'
BEGIN;
INSERT INTO drv (id) VALUES (10);
SAVEPOINT s;
INSERT INTO drv (id) VALUES (1);
SELECT 1;
ROLLBACK TO s;
COMMIT;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO drv (id) VALUES (10);
INSERT INTO drv (id) VALUES (11);
COMMIT;
SELECT id FROM drv ORDER BY id;
SQL
}
cursors() {
  run <<'SQL'
\set FETCH_COUNT 3
SELECT n FROM generate_series(1, 10) n;
\unset FETCH_COUNT
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 3) n \gexec
SELECT 7 AS seven \gset
\echo :seven
SELECT n, n % 2 AS odd, n FROM generate_series(1, 3) n \crosstabview
SQL
}
errors() { for q in 'SELEC 1' 'SELECT 1/0' 'SELECT * FROM nowhere' "SELECT 'ä' FROM" "SELECT 'ä', nowhere FROM drv"; do run -c "$q" 2>&1; done; }
notices() { run -c "DO \$\$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END \$\$" 2>&1; }
listen() { printf 'LISTEN news;\nNOTIFY news, $$extra$$;\n' | sed "s/\\$\\$/'/g" | run | sed 's/PID [0-9]*/PID n/'; }
large() { run -Atc "SELECT repeat('x', 10000000)" | md5sum; run -Atc 'SELECT n, md5(n::text) FROM generate_series(1, 50000) n' | md5sum; }
say simple simple
say '\\d' describe
say '\\copy' copies
say '\\watch' watch
say transactions transactions
say cursors cursors
say errors errors
say notices notices
say LISTEN/NOTIFY listen
# timeout may signal twice, and psql says so twice.
cancel() { timeout -s INT 1 psql -X -c 'SELECT pg_sleep(20)' 2>&1 | uniq; }
say cancel cancel
say 'large rows' large
run -qAtc 'DROP TABLE IF EXISTS drv CASCADE' 2>/dev/null
