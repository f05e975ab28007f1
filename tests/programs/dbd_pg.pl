# DBD::Pg, on the system's libpq. See checks.py for what a program prints.

use strict;
use warnings;

use DBD::Pg qw(:pg_types :async);
use DBI;
use Digest::SHA qw(sha256_hex);

$| = 1;

use constant SETTINGS => "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'";
use constant OPTIONS => '-c statement_timeout=12345 --work-mem=1234kB -c search_path=a,c -c geqo=off -c DateStyle=German -c TimeZone=Asia/Tokyo';
my $large = 'portcullis' x 2_000_000;
my @rows = map { "$_\t" . sha256_hex($_) . "\n" } 0 .. 49_999;

sub at { $ENV{"AT_$_[0]"} }

sub check {
    my ($name, $run) = @_;
    my $seen = eval { $run->() };
    if (my $why = $@) {
        $why =~ s/\s+/ /g;
        print "FAIL $name: $why\n";
    } else {
        print defined $seen ? "ok $name: $seen\n" : "ok $name\n";
    }
}

sub cannot { print "no $_[0]: $_[1]\n" }

sub same {
    my ($seen, $expected) = @_;
    die substr($seen // 'nothing', 0, 200) . ' instead of ' . substr($expected, 0, 200) if ($seen // '') ne $expected;
    return;
}

# Runs what must fail, with this in the error; returns the error's text.
sub fails {
    my ($words, $run) = @_;
    die "it did not fail\n" if eval { $run->(); 1 };
    die $@ if $@ !~ $words;
    return $@;
}

sub connected {
    my %told = (host => at('HOST'), port => at('PORT'), dbname => at('DATABASE'), sslmode => 'verify-full', sslrootcert => at('CA'), connect_timeout => 20, @_);
    my $password = delete $told{password} // at('PASSWORD');
    my $dsn = join ';', map { "$_='$told{$_}'" } sort keys %told;
    return DBI->connect("dbi:Pg:$dsn", at('USER'), $password, { RaiseError => 1, PrintError => 0, pg_enable_utf8 => 0 });
}

sub one {
    my ($c, $sql, @values) = @_;
    return ($c->selectrow_array($sql, undef, @values))[0];
}

sub ask {
    my ($sql, @more) = @_;
    my $c = connected(@more);
    my $told = one($c, $sql);
    $c->disconnect;
    return $told;
}

my $c = connected();
printf "version %s, libpq %d\n", DBD::Pg->VERSION =~ /^(\d+\.\d+)/, $c->{pg_lib_version} / 10_000;

check('require', sub { same(ask('select 1', sslmode => 'require', sslrootcert => ''), 1) });
check('verify-ca', sub { same(ask('select 1', sslmode => 'verify-ca'), 1) });
check('verify-full', sub { same(ask('select 1'), 1) });
check('wrong-name', sub { fails(qr/host name/, sub { ask('select 1', host => '127.0.0.1') }); return });
check('wrong-authority', sub { fails(qr/certificate verify failed/, sub { ask('select 1', sslrootcert => at('OTHER_CA')) }); return });
check('binding', sub { same(ask('select 1', channel_binding => 'require'), 1) });
check('no-binding', sub { same(ask('select 1', channel_binding => 'disable'), 1) });
cannot('direct', 'libpq before 17 has only SSLRequest');
check('settings', sub { ask(SETTINGS, application_name => 'tests and more', client_encoding => 'LATIN1', options => OPTIONS) });
check('wrong-password', sub { fails(qr/authentication failed for user/, sub { ask('select 1', password => 'wrong') }); return });
if (at('DENIED_PORT')) {
    check('denied', sub { (fails(qr/PC-/, sub { ask('select 1', port => at('DENIED_PORT')) }) =~ /(PC(?:-[0-9A-Z]{4}){3})/)[0] });
    check('connect-timeout', sub { fails(qr/timeout/, sub { ask('select 1', port => at('SILENT_PORT'), connect_timeout => 2) }); return });
}

check('prepared', sub {
    my $s = $c->prepare('select ?::int + 1');
    for my $n (0 .. 999) {
        $s->execute($n);
        same(($s->fetchrow_array)[0], $n + 1);
    }
    $s->finish;
    same(one($c, 'select count(*) > 0 from pg_prepared_statements'), 1);
});
cannot('pipeline', 'one statement at a time');
check('copy', sub {
    $c->do('create temp table t (n int, b text)');
    $c->do('copy t from stdin');
    $c->pg_putcopydata($_) for @rows;
    $c->pg_putcopyend;
    $c->do('copy (select * from t order by n) to stdout');
    my ($out, $row) = ('', '');
    $out .= $row while $c->pg_getcopydata($row) >= 0;
    same($out, join('', @rows));
});
check('notify', sub {
    $c->do('listen perl');
    ask("select pg_notify('perl', repeat('x', 7000))");
    my $heard;
    for (1 .. 500) {
        last if $heard = $c->pg_notifies;
        select undef, undef, undef, 0.02;
    }
    same($heard->[2], 'x' x 7000);
});
check('large-object', sub {
    my $blob = join '', @rows;
    $c->begin_work;
    my $oid = $c->pg_lo_creat($c->{pg_INV_READ} | $c->{pg_INV_WRITE});
    my $object = $c->pg_lo_open($oid, $c->{pg_INV_READ} | $c->{pg_INV_WRITE});
    $c->pg_lo_write($object, $blob, length $blob);
    $c->pg_lo_lseek($object, 0, 0);
    my $told = '';
    while ((my $length = $c->pg_lo_read($object, my $block, 1_000_000)) > 0) { $told .= substr $block, 0, $length }
    $c->pg_lo_unlink($oid);
    $c->commit;
    same($told, $blob);
});
check('cancel', sub {
    $c->do('select pg_sleep(30)', { pg_async => PG_ASYNC });
    select undef, undef, undef, 0.3;
    my $begin = time;
    same($c->pg_cancel ? 1 : 0, 1);
    # It waits for the statement's end, however that comes.
    same(time - $begin < 20, 1);
    same(one($c, 'select 1'), 1);
});
check('statement-timeout', sub { fails(qr/statement timeout/, sub { ask('select pg_sleep(30)', options => '-c statement_timeout=200') }); return });
check('binary', sub {
    my $bytes = "\0\xff" x 1000;
    my $s = $c->prepare('select ?::bytea');
    $s->bind_param(1, $bytes, { pg_type => PG_BYTEA });
    $s->execute;
    same(($s->fetchrow_array)[0], $bytes);
});
check('error', sub {
    eval { $c->do('select * from nowhere') };
    my ($first) = split /\n/, $c->errstr;
    return $c->state . " $first";
});
check('large-value', sub { same(one($c, 'select ?::text', $large), $large) });
$c->disconnect;
