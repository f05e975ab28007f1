<?php
// PHP's pgsql extension, on the system's libpq.

require __DIR__ . '/checks.php';

print 'version PHP ' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . ', libpq ' . (int) PGSQL_LIBPQ_VERSION . "\n";

function connect($more = []) { return pg_connect(dsn($more), PGSQL_CONNECT_FORCE_NEW); }

function one($c, $sql, $values = []) {
    return pg_fetch_result($values ? pg_query_params($c, $sql, $values) : pg_query($c, $sql), 0, 0);
}

function ask($sql = 'select 1', $more = []) {
    $c = connect($more);
    try { return one($c, $sql); } finally { pg_close($c); }
}

// The error's code, which only a result has.
function code($c, $sql) {
    pg_send_query($c, $sql);
    $result = pg_get_result($c);
    while (pg_get_result($c)) {}
    return pg_result_error_field($result, PGSQL_DIAG_SQLSTATE) . ' ' . pg_result_error_field($result, PGSQL_DIAG_MESSAGE_PRIMARY);
}

check('require', fn() => same(ask('select 1', ['sslmode' => 'require', 'sslrootcert' => '']), '1'));
check('verify-ca', fn() => same(ask('select 1', ['sslmode' => 'verify-ca']), '1'));
check('verify-full', fn() => same(ask(), '1'));
check('wrong-name', function () { fails('host name', fn() => ask('select 1', ['host' => '127.0.0.1'])); });
check('wrong-authority', function () { fails('certificate verify failed', fn() => ask('select 1', ['sslrootcert' => at('OTHER_CA')])); });
check('binding', fn() => same(ask('select 1', ['channel_binding' => 'require']), '1'));
check('no-binding', fn() => same(ask('select 1', ['channel_binding' => 'disable']), '1'));
cannot('direct', 'libpq before 17 has only SSLRequest');
check('settings', fn() => ask(SETTINGS, ['application_name' => "tests 'and' more", 'client_encoding' => 'LATIN1', 'options' => OPTIONS]));
check('wrong-password', function () { fails('authentication failed for user', fn() => ask('select 1', ['password' => 'wrong'])); });
if (at('DENIED_PORT')) {
    check('denied', fn() => refused(fn() => ask('select 1', ['port' => at('DENIED_PORT')])));
    check('connect-timeout', function () { fails('timeout', fn() => ask('select 1', ['port' => at('SILENT_PORT'), 'connect_timeout' => '2'])); });
}

$c = connect();
check('prepared', function () use ($c) {
    pg_prepare($c, 'plus', 'select $1::int + 1');
    for ($n = 0; $n < 1000; $n++) same(pg_fetch_result(pg_execute($c, 'plus', [$n]), 0, 0), (string) ($n + 1));
});
cannot('pipeline', 'one statement at a time');
check('copy', function () use ($c, $rows) {
    pg_query($c, 'create temp table t (n int, b text)');
    pg_copy_from($c, 't', $rows);
    same(pg_copy_to($c, 't'), $rows);
});
check('notify', function () use ($c) {
    pg_query($c, 'listen php');
    ask("select pg_notify('php', repeat('x', 7000))");
    for ($end = time() + 10; !($heard = pg_get_notify($c)) && time() < $end; ) usleep(10000);
    same($heard['payload'], str_repeat('x', 7000));
});
check('large-object', function () use ($c, $rows) {
    $blob = implode($rows);
    pg_query($c, 'begin');
    $oid = pg_lo_create($c);
    $object = pg_lo_open($c, $oid, 'w+');
    same(pg_lo_write($object, $blob), strlen($blob));
    pg_lo_seek($object, 0, PGSQL_SEEK_SET);
    same(pg_lo_read($object, strlen($blob)), $blob);
    pg_lo_unlink($c, $oid);
    pg_query($c, 'commit');
});
check('cancel', function () use ($c) {
    pg_send_query($c, 'select pg_sleep(30)');
    usleep(300000);
    $begin = time();
    same(pg_cancel_query($c), true);
    // It waits for the statement's end, however that comes.
    same(time() - $begin < 20, true);
    same(one($c, 'select 1'), '1');
});
check('statement-timeout', function () {
    $own = connect(['options' => '-c statement_timeout=200']);
    same(substr(code($own, 'select pg_sleep(30)'), 0, 5), '57014');
});
cannot('binary', 'it sends and asks for text');
check('error', fn() => code($c, 'select * from nowhere'));
check('large-value', fn() => same(one($c, 'select $1::text', [$large]), $large));
