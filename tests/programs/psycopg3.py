"""psycopg 3, on the libpq that it brings."""

import threading

import psycopg
from psycopg import pq

from checks import *

print(f'version psycopg {psycopg.__version__}, libpq {pq.version() // 10000}')


def connect(**more):
    told = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode='verify-full', sslrootcert=CA, connect_timeout=20)
    return psycopg.connect(autocommit=True, **(told | more))


def one(connection, sql, *values, **more):
    return connection.execute(sql, values, **more).fetchone()[0]


def ask(sql='select 1', **more):
    with connect(**more) as c:
        return one(c, sql)


check('require', lambda: same(ask(sslmode='require', sslrootcert=''), 1))
check('verify-ca', lambda: same(ask(sslmode='verify-ca', host='wrong.example', hostaddr='127.0.0.1') if not DENIED_PORT else ask(sslmode='verify-ca'), 1))
check('verify-full', lambda: same(ask(), 1))
check('wrong-name', lambda: fails(lambda: ask(host=WRONG_NAME), 'host name') and None)
check('wrong-authority', lambda: fails(lambda: ask(sslrootcert=OTHER_CA), 'certificate verify failed') and None)
check('binding', lambda: same(ask(channel_binding='require'), 1))
check('no-binding', lambda: same(ask(channel_binding='disable'), 1))
check('direct', lambda: same(ask(sslnegotiation='direct'), 1))


def settings():
    options = r'-c statement_timeout=12345 --work-mem=1234kB -c search_path="a\ b",c -c geqo=off -c DateStyle=German -c TimeZone=Asia/Tokyo'
    return ask(SETTINGS, application_name="tests 'and' more", client_encoding='LATIN1', options=options)


check('settings', settings)
check('wrong-password', lambda: fails(lambda: ask(password='wrong'), 'authentication failed for user') and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: ask(port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: ask(port=SILENT_PORT, connect_timeout=2), 'timeout') and None)

c = connect()


def prepared():
    for n in range(1000):
        same(one(c, 'select %s::int + 1', n, prepare=True), n + 1)
    same(one(c, 'select count(*) from pg_prepared_statements'), 1)


check('prepared', prepared)


def pipeline():
    with c.pipeline():
        cursors = [c.execute('select %s::text', (str(n),)) for n in range(500)]
    same([cursor.fetchone()[0] for cursor in cursors], [str(n) for n in range(500)])


check('pipeline', pipeline)


def copy():
    c.execute('create temp table t (n int, b text)')
    with c.cursor().copy('copy t from stdin') as to:
        to.write(AS_COPY)
    with c.cursor().copy('copy (select * from t order by n) to stdout') as out:
        same(b''.join(map(bytes, out)), AS_COPY)


check('copy', copy)


def notify():
    c.execute('listen psycopg3')
    ask("select pg_notify('psycopg3', repeat('x', 7000))")
    same([n.payload for n in c.notifies(timeout=10, stop_after=1)], ['x' * 7000])


check('notify', notify)


def large_object():
    blob = AS_COPY
    oid = one(c, 'select lo_from_bytea(0, %s)', blob)
    same(one(c, 'select lo_get(%s)', oid), blob)
    same(one(c, 'select lo_unlink(%s)', oid), 1)


check('large-object', large_object)


def cancel():
    for stop in (c.cancel, c.cancel_safe):
        threading.Timer(0.3, stop).start()
        fails(lambda: one(c, 'select pg_sleep(30)'), 'QueryCanceled')
        same(one(c, 'select 1'), 1)


check('cancel', cancel)
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', options='-c statement_timeout=200'), 'QueryCanceled') and None)


def binary():
    with c.cursor(binary=True) as cursor:
        told = cursor.execute('select %b::int8, %b::bytea, array[1.5, 2.5]::float8[]', (1 << 40, b'\0\xff' * 1000)).fetchone()
        same(told, (1 << 40, b'\0\xff' * 1000, [1.5, 2.5]))


check('binary', binary)


def error():
    try:
        c.execute('select * from nowhere')
    except psycopg.Error as e:
        return f'{e.sqlstate} {e.diag.message_primary}'


check('error', error)


def large_value():
    same(one(c, 'select %s::text', LARGE), LARGE)


check('large-value', large_value)
