<?php
// What the programs in PHP share: see checks.py for what a program prints.

ini_set('memory_limit', '1G');
// Warnings are errors here.
set_error_handler(function ($level, $text) { throw new ErrorException($text); });

const SETTINGS = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'";

$large = str_repeat('portcullis', 2000000);
$rows = array_map(fn($n) => "$n\t" . hash('sha256', (string) $n) . "\n", range(0, 49999));

function at($name) { return getenv("AT_$name"); }

function check($name, $run) {
    try {
        $seen = $run();
        print $seen === null ? "ok $name\n" : "ok $name: $seen\n";
    } catch (Throwable $e) {
        print "FAIL $name: " . preg_replace('/\s+/', ' ', $e->getMessage()) . "\n";
    }
}

function cannot($name, $why) { print "no $name: $why\n"; }

function same($seen, $expected) {
    if ($seen !== $expected) throw new Exception(substr(var_export($seen, true), 0, 200) . ' instead of ' . substr(var_export($expected, true), 0, 200));
}

// Runs what must fail, with this in the error; returns the error's text.
function fails($words, $run) {
    try {
        $run();
    } catch (Throwable $e) {
        if (!preg_match("/$words/", $e->getMessage())) throw $e;
        return $e->getMessage();
    }
    throw new Exception('it did not fail');
}

// Runs what policy must deny; returns the reference that the driver shows.
function refused($run) {
    preg_match('/PC(-[0-9A-Z]{4}){3}/', fails('PC-', $run), $found);
    return $found[0];
}

// What libpq is told, with these in place of the usual.
function dsn($more = [], $separator = ' ') {
    $told = $more + ['host' => at('HOST'), 'port' => at('PORT'), 'user' => at('USER'), 'password' => at('PASSWORD'), 'dbname' => at('DATABASE'),
        'sslmode' => 'verify-full', 'sslrootcert' => at('CA'), 'connect_timeout' => '20'];
    $quoted = fn($name, $value) => "$name='" . addcslashes($value, "\\'") . "'";
    return implode($separator, array_map($quoted, array_keys($told), $told));
}

const OPTIONS = '-c statement_timeout=12345 --work-mem=1234kB -c search_path=a,c -c geqo=off -c DateStyle=German -c TimeZone=Asia/Tokyo';
