"""psycopg 2, on the libpq that it brings."""

import io
import select
import threading

import psycopg2
from psycopg2 import errors, extensions

from checks import *

print(f'version psycopg2 {psycopg2.__version__.split()[0]}, libpq {psycopg2.__libpq_version__ // 10000}')


def connect(**more):
    told = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode='verify-full', sslrootcert=CA, connect_timeout=20)
    c = psycopg2.connect(**(told | more))
    c.autocommit = True
    return c


def one(connection, sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchone()[0]


def ask(sql='select 1', **more):
    c = connect(**more)
    try:
        return one(c, sql)
    finally:
        c.close()


check('require', lambda: same(ask(sslmode='require', sslrootcert=''), 1))
check('verify-ca', lambda: same(ask(sslmode='verify-ca'), 1))
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
    one(c, "prepare plus (int) as select $1 + 1; select 1")
    for n in range(1000):
        same(one(c, 'execute plus (%s)', n), n + 1)


check('prepared', prepared)
cannot('pipeline', 'one statement at a time')


def copy():
    with c.cursor() as cursor:
        cursor.execute('create temp table t (n int, b text)')
        cursor.copy_expert('copy t from stdin', io.BytesIO(AS_COPY))
        out = io.BytesIO()
        cursor.copy_expert('copy (select * from t order by n) to stdout', out)
        same(out.getvalue(), AS_COPY)


check('copy', copy)


def notify():
    one(c, 'listen psycopg2; select 1')
    ask("select pg_notify('psycopg2', repeat('x', 7000))")
    assert select.select([c], [], [], 10)[0], 'nothing heard'
    c.poll()
    same([n.payload for n in c.notifies], ['x' * 7000])


check('notify', notify)


def large_object():
    with connect() as own:
        own.autocommit = False
        blob = own.lobject(0, 'wb')
        blob.write(AS_COPY)
        own.commit()
        again = own.lobject(blob.oid, 'rb')
        same(again.read(), AS_COPY)
        again.unlink()


check('large-object', large_object)


def cancel():
    threading.Timer(0.3, c.cancel).start()
    fails(lambda: one(c, 'select pg_sleep(30)'), 'QueryCanceled')
    same(one(c, 'select 1'), 1)


check('cancel', cancel)
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', options='-c statement_timeout=200'), 'QueryCanceled') and None)
cannot('binary', 'writes parameters into the statement as text')


def error():
    try:
        one(c, 'select * from nowhere')
    except psycopg2.Error as e:
        return f'{e.pgcode} {e.diag.message_primary}'


check('error', error)


def large_value():
    same(one(c, 'select %s::text', LARGE), LARGE)


check('large-value', large_value)
