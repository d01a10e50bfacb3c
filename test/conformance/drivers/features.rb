# Ruby pg: every feature once, a line each; run directly and through, the lines must be equal.
require 'pg'
require 'digest'

def say(feature, result)
  puts "#{feature}\t#{result.inspect}"
  $stdout.flush
end

def error_of
  yield
  nil
rescue PG::Error => e
  r = e.result
  return [e.class, e.message] if r.nil?
  [PG::PG_DIAG_SQLSTATE, PG::PG_DIAG_SEVERITY, PG::PG_DIAG_MESSAGE_PRIMARY, PG::PG_DIAG_CONSTRAINT_NAME, PG::PG_DIAG_STATEMENT_POSITION].map { |f| r.error_field(f) }
end

def connect = PG.connect

db = connect
r = db.exec("SELECT 1, 'ä€' AS t, NULL, 3.14::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb")
say 'simple', [r.values, r.fields, r.nfields.times.map { |i| r.ftype(i) }]
say 'multi-statement', db.exec('SELECT 1; SELECT 2').values
db.prepare('p', "SELECT $1::int * 2, $2::text")
say 'prepared', [5.times.map { |n| db.exec_prepared('p', [n, "it's"]).values }, db.describe_prepared('p').nparams]
say 'binary', db.exec_params("SELECT 7::int8, 2.5::float8, 'ä', $1::bytea", [{ value: "\0\1", format: 1 }], 1).values
db.exec('DROP TABLE IF EXISTS drv')
db.exec('CREATE TABLE drv (id int PRIMARY KEY, body text)')
db.copy_data('COPY drv FROM STDIN') { db.put_copy_data("1\tone\n2\t\\N\n3\tthree\\tx\n") }
refused = error_of { db.copy_data('COPY drv FROM STDIN') { db.put_copy_data("9\tnine\nx\ty\n") } }
failed = error_of { db.copy_data('COPY drv FROM STDIN') { raise PG::Error, 'given up' } }
say 'COPY in', [db.exec('SELECT * FROM drv ORDER BY id').values, refused, failed]
lines = []
db.copy_data('COPY drv TO STDOUT CSV') { while (l = db.get_copy_data); lines << l; end }
say 'COPY out', lines
db.transaction do
  db.exec('DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n')
  say 'cursors', [db.exec('FETCH 3 FROM c').values, db.exec('MOVE 100 FROM c').cmd_tuples, db.exec('FETCH BACKWARD 2 FROM c').values]
end
db.exec('BEGIN')
db.exec("INSERT INTO drv VALUES (10, 'x')")
db.exec('SAVEPOINT s')
clash = error_of { db.exec("INSERT INTO drv VALUES (1, 'again')") }
status = db.transaction_status
db.exec('ROLLBACK TO s')
db.exec('COMMIT')
say 'transactions', [clash, status, db.transaction_status, db.exec('SELECT id FROM drv ORDER BY id').values]
say 'errors', ['SELEC 1', 'SELECT 1/0', 'SELECT * FROM nowhere', "SELECT 'ä' FROM"].map { |q| [error_of { db.exec(q) }, error_of { db.exec_params(q, []) }] }
notices = []
db.set_notice_receiver { |n| notices << [n.error_field(PG::PG_DIAG_SEVERITY), n.error_field(PG::PG_DIAG_MESSAGE_PRIMARY), n.error_field(PG::PG_DIAG_MESSAGE_HINT)] }
db.exec("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$")
say 'notices', notices
other = connect
db.exec('LISTEN news')
other.exec("SELECT pg_notify('news', 'extra')")
db.wait_for_notify(5) { |channel, pid, payload| say 'LISTEN/NOTIFY', [channel, payload, pid == other.backend_pid] }
db.send_query('SELECT pg_sleep(20)')
sleep 0.3
cancelled = db.cancel
say 'cancel', [cancelled, error_of { db.get_last_result }]
sleep 0.5
db.send_query('SELECT n FROM generate_series(1, 1000) n')
db.set_single_row_mode
sum = 0
db.get_result.stream_each { |row| sum += row['n'].to_i }
db.get_result
big = db.exec("SELECT repeat('x', 10000000)").getvalue(0, 0)
rows = db.exec('SELECT n, md5(n::text) FROM generate_series(1, 50000) n').values
say 'large rows', [sum, Digest::MD5.hexdigest(big), Digest::MD5.hexdigest(rows.inspect)]
db.enter_pipeline_mode
db.send_query_params('SELECT $1::int', [1])
db.send_query_params("INSERT INTO drv VALUES (1, 'clash')", [])
db.send_query_params('SELECT 2', [])
db.pipeline_sync
db.send_query_params('SELECT 3', [])
db.pipeline_sync
seen = []
synced = 0
while synced < 2
  r = db.get_result
  next if r.nil?
  seen << [r.result_status, r.result_status == PG::PGRES_TUPLES_OK ? r.values : r.error_field(PG::PG_DIAG_SQLSTATE)]
  synced += 1 if r.result_status == PG::PGRES_PIPELINE_SYNC
end
db.exit_pipeline_mode
say 'pipelining', seen
db.exec('DROP TABLE drv')
