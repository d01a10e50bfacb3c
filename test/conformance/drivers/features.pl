# Perl DBD::Pg: every feature once, a line each; run directly and through, the lines must be equal.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types :async);
use Digest::MD5 qw(md5_hex);
use JSON::PP;
my $json = JSON::PP->new->canonical->allow_nonref->ascii;
$| = 1;

sub say_ { my ($feature, $result) = @_; print "$feature\t", $json->encode($result), "\n"; }

sub connect_ {
  return DBI->connect('dbi:Pg:', '', '', { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1 });
}

sub error_of {
  my ($db, $run) = @_;
  return undef if eval { $run->(); 1 };
  return [$db->state, $db->errstr];
}

my $db = connect_();
say_('simple', $db->selectall_arrayref(q{SELECT 1, 'ä', NULL, 3.14::numeric, ARRAY[1,2], '{"a": 1}'::jsonb}));
$db->do('SELECT 1; SELECT 2');
say_('multi-statement', $db->selectall_arrayref('SELECT 3'));
my $p = $db->prepare('SELECT ?::int * 2, ?::text', { pg_prepare_now => 1 });
say_('prepared', [map { $p->execute($_, "it's"); $p->fetchall_arrayref } 1 .. 5]);
my $b = $db->prepare('SELECT length(?)');
$b->bind_param(1, "\0\1\2", { pg_type => PG_BYTEA });
$b->execute;
say_('binary', $b->fetchall_arrayref);
$db->do('DROP TABLE IF EXISTS drv');
$db->do('CREATE TABLE drv (id int PRIMARY KEY, body text)');
$db->do('COPY drv FROM STDIN');
$db->pg_putcopydata($_) for ("1\tone\n", "2\t\\N\n", "3\tthree\\tx\n");
my $ended = $db->pg_putcopyend;
$db->do('COPY drv FROM STDIN');
$db->pg_putcopydata("x\ty\n");
say_('COPY in', [$ended, error_of($db, sub { $db->pg_putcopyend })]);
$db->do('COPY drv TO STDOUT CSV');
my ($line, @lines);
push @lines, $line while $db->pg_getcopydata($line) >= 0;
say_('COPY out', \@lines);
$db->begin_work;
$db->do('DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n');
say_('cursors', [$db->selectall_arrayref('FETCH 3 FROM c'), $db->do('MOVE 100 FROM c'), $db->selectall_arrayref('FETCH BACKWARD 2 FROM c')]);
$db->commit;
$db->begin_work;
$db->do("INSERT INTO drv VALUES (10, 'x')");
$db->pg_savepoint('s');
my $clash = error_of($db, sub { $db->do("INSERT INTO drv VALUES (1, 'again')") });
my $ping = $db->ping;
$db->pg_rollback_to('s');
$db->commit;
say_('transactions', [$clash, $ping, $db->selectall_arrayref('SELECT id FROM drv ORDER BY id')]);
say_('errors', [map { my $q = $_; error_of($db, sub { $db->selectall_arrayref($q) }) } 'SELEC 1', 'SELECT 1/0', 'SELECT * FROM nowhere', "SELECT 'a' FROM"]);
my @notices;
{
  local $SIG{__WARN__} = sub { push @notices, $_[0] };
  $db->{PrintWarn} = 1;
  $db->do(q{DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$});
  $db->{PrintWarn} = 0;
}
s/ at \S+ line \d+.*//s for @notices;
say_('notices', \@notices);
my $other = connect_();
$db->do('LISTEN news');
$other->do("SELECT pg_notify('news', 'extra')");
my $n;
for (1 .. 50) { $n = $db->pg_notifies; last if $n; select(undef, undef, undef, 0.1); }
say_('LISTEN/NOTIFY', [$n->[0], $n->[2], $n->[1] == $other->{pg_pid} ? 'same' : 'other']);
my $s = $db->prepare('SELECT pg_sleep(20)', { pg_async => PG_ASYNC });
$s->execute;
select(undef, undef, undef, 0.3);
my $cancelled = $db->pg_cancel ? 'cancelled' : 'not';
select(undef, undef, undef, 0.5);
say_('cancel', [$cancelled, $db->selectall_arrayref('SELECT 1')]);
my $big = $db->selectrow_array("SELECT repeat('x', 10000000)");
my $rows = $db->selectall_arrayref('SELECT n, md5(n::text) FROM generate_series(1, 50000) n');
say_('large rows', [md5_hex($big), md5_hex($json->encode($rows))]);
$db->do('DROP TABLE drv');
$other->disconnect;
$db->disconnect;
