"""psqlODBC, on the system's libpq, asked by pyodbc."""

import threading

import pyodbc

from checks import *

pyodbc.pooling = False


def connect(**more):
    # Further libpq parameters go into `pqopt`; ODBC quotes by braces.
    told = dict(Driver='{%s}' % os.environ['AT_ODBC_DRIVER'], Servername=HOST, Port=PORT, UID=USER, PWD=PASSWORD, Database=DATABASE, SSLmode='verify-full',
                pqopt='{sslrootcert=%s connect_timeout=20}' % CA, UseServerSidePrepare=1)
    return pyodbc.connect(''.join(f'{name}={value};' for name, value in (told | more).items()), autocommit=True)


def one(connection, sql, *values):
    return connection.execute(sql, *values).fetchone()[0]


def ask(sql='select 1', **more):
    c = connect(**more)
    try:
        return one(c, sql)
    finally:
        c.close()


def pqopt(**more):
    told = dict(sslrootcert=CA, connect_timeout=20) | more
    return dict(pqopt='{%s}' % ' '.join(f'{name}={value}' for name, value in told.items()))


c = connect()
print('version', '.'.join(c.getinfo(pyodbc.SQL_DRIVER_VER).split('.')[:2]))

check('require', lambda: same(ask(SSLmode='require', pqopt='connect_timeout=20'), 1))
check('verify-ca', lambda: same(ask(SSLmode='verify-ca'), 1))
check('verify-full', lambda: same(ask(), 1))
check('wrong-name', lambda: fails(lambda: ask(Servername=WRONG_NAME), 'host name') and None)
check('wrong-authority', lambda: fails(lambda: ask(**pqopt(sslrootcert=OTHER_CA)), 'certificate verify failed') and None)
check('binding', lambda: same(ask(**pqopt(channel_binding='require')), 1))
check('no-binding', lambda: same(ask(**pqopt(channel_binding='disable')), 1))
cannot('direct', 'libpq before 17 has only SSLRequest')
check('settings', lambda: ask(SETTINGS, **pqopt(application_name="'tests and more'", options="'-c geqo=off --work-mem=1234kB -c TimeZone=Asia/Tokyo'")))
check('wrong-password', lambda: fails(lambda: ask(PWD='wrong'), 'authentication failed for user') and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: ask(Port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: ask(Port=SILENT_PORT, **pqopt(connect_timeout=2)), 'timeout') and None)


def prepared():
    cursor = c.cursor()
    for n in range(1000):
        same(cursor.execute('select ?::int + 1', n).fetchone()[0], n + 1)
    same(one(c, 'select count(*) > 0 from pg_prepared_statements'), '1')


check('prepared', prepared)
cannot('pipeline', 'one statement at a time')
cannot('copy', 'ODBC has no COPY')
cannot('notify', 'ODBC has no notifications')


def large_object():
    oid = one(c, 'select lo_from_bytea(0, ?)::int8', AS_COPY)
    same(bytes(one(c, 'select lo_get(?::int8::oid)', oid)), AS_COPY)
    same(one(c, 'select lo_unlink(?::int8::oid)', oid), 1)


check('large-object', large_object)


def cancel():
    cursor = c.cursor()
    threading.Timer(0.3, cursor.cancel).start()
    fails(lambda: cursor.execute('select pg_sleep(30)'), 'cancel')
    same(one(c, 'select 1'), 1)


check('cancel', cancel)
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', **pqopt(options="'-c statement_timeout=200'")), 'statement timeout') and None)
check('binary', lambda: same(bytes(one(c, 'select ?::bytea', b'\0\xff' * 1000)), b'\0\xff' * 1000))


def error():
    try:
        c.execute('select * from nowhere')
    except pyodbc.Error as e:
        return f'{e.args[0]} {e.args[1]}'.split(';')[0]


check('error', error)


def large_value():
    same(one(c, 'select ?::text', LARGE), LARGE)


check('large-value', large_value)
