<?php
// PHP's PDO, on the system's libpq.

require __DIR__ . '/checks.php';

print 'version PHP ' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . "\n";

function connect($more = [], $options = []) {
    // PDO quotes nothing and puts blanks for semicolons; user and password come apart.
    $told = $more + ['host' => at('HOST'), 'port' => at('PORT'), 'dbname' => at('DATABASE'), 'sslmode' => 'verify-full', 'sslrootcert' => at('CA')];
    $password = $told['password'] ?? at('PASSWORD');
    unset($told['password']);
    $quoted = fn($name, $value) => "$name='" . addcslashes($value, "\\'") . "'";
    $dsn = 'pgsql:' . implode(';', array_map($quoted, array_keys($told), $told));
    return new PDO($dsn, at('USER'), $password, $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_TIMEOUT => 20]);
}

function one($c, $sql, $values = []) {
    $s = $c->prepare($sql);
    $s->execute($values);
    return $s->fetchColumn();
}

function ask($sql = 'select 1', $more = [], $options = []) { return one(connect($more, $options), $sql); }

check('require', fn() => same(ask('select 1', ['sslmode' => 'require', 'sslrootcert' => '']), 1));
check('verify-ca', fn() => same(ask('select 1', ['sslmode' => 'verify-ca']), 1));
check('verify-full', fn() => same(ask(), 1));
check('wrong-name', function () { fails('host name', fn() => ask('select 1', ['host' => '127.0.0.1'])); });
check('wrong-authority', function () { fails('certificate verify failed', fn() => ask('select 1', ['sslrootcert' => at('OTHER_CA')])); });
check('binding', fn() => same(ask('select 1', ['channel_binding' => 'require']), 1));
check('no-binding', fn() => same(ask('select 1', ['channel_binding' => 'disable']), 1));
cannot('direct', 'libpq before 17 has only SSLRequest');
check('settings', fn() => ask(SETTINGS, ['application_name' => 'tests and more', 'client_encoding' => 'LATIN1', 'options' => OPTIONS]));
check('wrong-password', function () { fails('authentication failed for user', fn() => ask('select 1', ['password' => 'wrong'])); });
if (at('DENIED_PORT')) {
    check('denied', fn() => refused(fn() => ask('select 1', ['port' => at('DENIED_PORT')])));
    check('connect-timeout', function () { fails('timeout', fn() => ask('select 1', ['port' => at('SILENT_PORT')], [PDO::ATTR_TIMEOUT => 2])); });
}

$c = connect();
check('prepared', function () use ($c) {
    $s = $c->prepare('select ?::int + 1');
    for ($n = 0; $n < 1000; $n++) {
        $s->execute([$n]);
        same($s->fetchColumn(), $n + 1);
    }
});
cannot('pipeline', 'one statement at a time');
check('copy', function () use ($c, $rows) {
    $c->exec('create temp table t (n int, b text)');
    same($c->pgsqlCopyFromArray('t', $rows), true);
    same($c->pgsqlCopyToArray('t'), $rows);
});
check('notify', function () use ($c) {
    $c->exec('listen pdo');
    ask("select pg_notify('pdo', repeat('x', 7000))");
    same($c->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000)['payload'], str_repeat('x', 7000));
});
check('large-object', function () use ($c, $rows) {
    $blob = implode($rows);
    $c->beginTransaction();
    $oid = $c->pgsqlLOBCreate();
    $object = $c->pgsqlLOBOpen($oid, 'w');
    fwrite($object, $blob);
    $object = null;
    $object = $c->pgsqlLOBOpen($oid, 'r');
    same(stream_get_contents($object), $blob);
    $object = null;
    $c->pgsqlLOBUnlink($oid);
    $c->commit();
});
cannot('cancel', 'it has no cancel request');
check('statement-timeout', function () { fails('57014', fn() => ask('select pg_sleep(30)', ['options' => '-c statement_timeout=200'])); });
check('binary', function () use ($c) {
    $bytes = str_repeat("\0\xff", 1000);
    $s = $c->prepare('select ?::bytea');
    $s->bindValue(1, $bytes, PDO::PARAM_LOB);
    $s->execute();
    same(stream_get_contents($s->fetchColumn()), $bytes);
});
check('error', function () use ($c) {
    try {
        $c->query('select * from nowhere');
    } catch (PDOException $e) {
        return $e->errorInfo[0] . ' ' . strtok($e->errorInfo[2], "\n");
    }
});
check('large-value', fn() => same(one($c, 'select ?::text', [$large]), $large));
