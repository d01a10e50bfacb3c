<?php
// PHP (ext/pgsql and PDO): every feature once, a line each; run directly and through, equal lines.
function say($feature, $result) { echo $feature, "\t", json_encode($result, JSON_PARTIAL_OUTPUT_ON_ERROR), "\n"; }
function connect() { return pg_connect('', PGSQL_CONNECT_FORCE_NEW); }
function error_of($db, $sql) {
  pg_send_query($db, $sql);
  $last = null;
  while ($r = pg_get_result($db)) {
    $fields = [PGSQL_DIAG_SQLSTATE, PGSQL_DIAG_SEVERITY, PGSQL_DIAG_MESSAGE_PRIMARY, PGSQL_DIAG_STATEMENT_POSITION];
    $last = array_map(fn($f) => pg_result_error_field($r, $f), $fields);
  }
  return $last;
}
error_reporting(E_ERROR);
$db = connect();
say('simple', pg_fetch_all(pg_query($db, "SELECT 1 AS a, 'ä€' AS b, NULL AS c, 3.14::numeric AS d, ARRAY[1,2] AS e, '{\"a\": 1}'::jsonb AS f")));
say('multi-statement', pg_fetch_all(pg_query($db, 'SELECT 1; SELECT 2 AS two')));
pg_prepare($db, 'p', 'SELECT $1::int * 2 AS n, $2::text AS t');
say('prepared', array_map(fn($n) => pg_fetch_row(pg_execute($db, 'p', [$n, "it's"])), [1, 2, 3]));
pg_query($db, 'DROP TABLE IF EXISTS drv; CREATE TABLE drv (id int PRIMARY KEY, body text)');
$copied = pg_copy_from($db, 'drv', ["1\tone\n", "2\t\\N\n", "3\tthree\\tx\n"]);
$refused = pg_copy_from($db, 'drv', ["9\tnine\n", "x\ty\n"]);
say('COPY in', [$copied, $refused, preg_replace('/\s+/', ' ', pg_last_error($db))]);
say('COPY out', pg_copy_to($db, 'drv'));
pg_query($db, 'BEGIN; DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n');
say('cursors', [pg_fetch_all(pg_query($db, 'FETCH 3 FROM c')), pg_affected_rows(pg_query($db, 'MOVE 100 FROM c')), pg_fetch_all(pg_query($db, 'FETCH BACKWARD 2 FROM c'))]);
pg_query($db, 'COMMIT');
pg_query($db, "BEGIN; INSERT INTO drv VALUES (10, 'x'); SAVEPOINT s");
$clash = error_of($db, "INSERT INTO drv VALUES (1, 'again')");
$status = pg_transaction_status($db);
pg_query($db, 'ROLLBACK TO s');
pg_query($db, 'COMMIT');
say('transactions', [$clash, $status, pg_transaction_status($db), pg_fetch_all(pg_query($db, 'SELECT id FROM drv ORDER BY id'))]);
say('errors', array_map(fn($q) => error_of($db, $q), ['SELEC 1', 'SELECT 1/0', 'SELECT * FROM nowhere', "SELECT 'ä' FROM"]));
pg_query($db, "DO \$\$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END \$\$");
say('notices', pg_last_notice($db, PGSQL_NOTICE_ALL));
$other = connect();
pg_query($db, 'LISTEN news');
pg_query($other, "SELECT pg_notify('news', 'extra')");
for ($i = 0; $i < 50 && !($n = pg_get_notify($db)); $i++) usleep(100000);
say('LISTEN/NOTIFY', [$n['message'], $n['payload'], $n['pid'] == pg_get_pid($other)]);
pg_send_query($db, 'SELECT pg_sleep(20)');
usleep(300000);
$cancelled = pg_cancel_query($db);
usleep(500000);
say('cancel', [$cancelled, pg_fetch_all(pg_query($db, 'SELECT 1 AS one'))]);
$big = pg_fetch_result(pg_query($db, "SELECT repeat('x', 10000000)"), 0, 0);
say('large rows', [md5($big), md5(json_encode(pg_fetch_all(pg_query($db, 'SELECT n, md5(n::text) FROM generate_series(1, 50000) n'))))]);
$pdo = new PDO('pgsql:host=' . getenv('PGHOST') . ';port=' . getenv('PGPORT') . ';dbname=' . getenv('PGDATABASE'), getenv('PGUSER'), getenv('PGPASSWORD'));
$s = $pdo->prepare("SELECT decode('000102', 'hex') AS b, CAST(? AS int) + 1 AS n");
$s->execute([41]);
$row = $s->fetch(PDO::FETCH_ASSOC);
say('binary', [bin2hex(stream_get_contents($row['b'])), $row['n']]);
pg_query($db, 'DROP TABLE drv');
