"""pg8000, all Python."""

import io
import ssl

import pg8000
import pg8000.native

from checks import *

print(f'version {pg8000.__version__}')


def context(ca=CA, name=True):
    made = ssl.create_default_context(cafile=ca)
    made.check_hostname = name
    return made


def connect(**more):
    told = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl_context=context(), timeout=20)
    return pg8000.native.Connection(**(told | more))


def one(connection, sql, **values):
    return connection.run(sql, **values)[0][0]


def ask(sql='select 1', **more):
    c = connect(**more)
    try:
        return one(c, sql)
    finally:
        c.close()


def binding():
    c = connect()
    same(c.auth.mechanism_name, 'SCRAM-SHA-256-PLUS')
    c.close()


check('require', lambda: same(ask(ssl_context=True), 1))
check('verify-ca', lambda: same(ask(ssl_context=context(name=False)), 1))
check('verify-full', lambda: same(ask(), 1))
check('wrong-name', lambda: fails(lambda: ask(host=WRONG_NAME), 'IP address mismatch') and None)
check('wrong-authority', lambda: fails(lambda: ask(ssl_context=context(OTHER_CA)), 'certificate verify failed') and None)
check('binding', binding)
cannot('no-binding', 'it always binds where the server offers it')
cannot('direct', 'it has only SSLRequest')


def settings():
    sent = dict(search_path='"a b",c', DateStyle='German', TimeZone='Asia/Tokyo', options='-c geqo=off --work-mem=1234kB')
    return ask(SETTINGS, application_name="tests 'and' more", startup_params=sent)


check('settings', settings)
check('wrong-password', lambda: fails(lambda: ask(password='wrong'), "'C': '28P01'") and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: ask(port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: ask(port=SILENT_PORT, timeout=1), 'timed out') and None)

c = connect()


def prepared():
    statement = c.prepare('select cast(:n as int) + 1')
    for n in range(1000):
        same(statement.run(n=n)[0][0], n + 1)
    statement.close()


check('prepared', prepared)
cannot('pipeline', 'one statement at a time')


def copy():
    c.run('create temp table t (n int, b text)')
    c.run('copy t from stdin', stream=io.BytesIO(AS_COPY))
    out = io.BytesIO()
    c.run('copy (select * from t order by n) to stdout', stream=out)
    same(out.getvalue(), AS_COPY)


check('copy', copy)


def notify():
    c.run('listen pg8000')
    ask("select pg_notify('pg8000', repeat('x', 7000))")
    while not c.notifications:
        c.run('select 1')
    same([payload for _, _, payload in c.notifications], ['x' * 7000])


check('notify', notify)


def large_object():
    oid = one(c, 'select lo_from_bytea(0, :blob)', blob=AS_COPY)
    same(one(c, 'select lo_get(:oid)', oid=oid), AS_COPY)
    same(one(c, 'select lo_unlink(:oid)', oid=oid), 1)


check('large-object', large_object)
cannot('cancel', 'it has no cancel request')
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', startup_params=dict(statement_timeout='200')), '57014') and None)
cannot('binary', 'it sends parameters as text')


def error():
    try:
        c.run('select * from nowhere')
    except pg8000.DatabaseError as e:
        return f'{e.args[0]["C"]} {e.args[0]["M"]}'


check('error', error)


def large_value():
    same(one(c, 'select cast(:large as text)', large=LARGE), LARGE)


check('large-value', large_value)
