"""SQLAlchemy's engine and pool, over psycopg 3 and over asyncpg."""

import asyncio
import ssl
import threading

import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, Text, URL, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from checks import *

print(f'version {sqlalchemy.__version__}')


def engine(host=HOST, port=PORT, password=PASSWORD, **more):
    url = URL.create('postgresql+psycopg', USER, password, host, port, DATABASE)
    told = dict(sslmode='verify-full', sslrootcert=CA, connect_timeout=20)
    return create_engine(url, connect_args=told | more, pool_pre_ping=True, isolation_level='AUTOCOMMIT')


def ask(sql='select 1', **more):
    made = engine(**more)
    try:
        with made.connect() as c:
            return c.exec_driver_sql(sql).scalar()
    finally:
        made.dispose()


async def over_asyncpg():
    url = URL.create('postgresql+asyncpg', USER, PASSWORD, HOST, PORT, DATABASE)
    made = create_async_engine(url, connect_args=dict(ssl=ssl.create_default_context(cafile=CA)), pool_pre_ping=True)
    async def plus(n):
        async with made.connect() as c:
            return (await c.execute(text('select cast(:n as int) + 1'), dict(n=n))).scalar()
    same(await asyncio.gather(*map(plus, range(50))), list(range(1, 51)))
    await made.dispose()


check('require', lambda: same(ask(sslmode='require', sslrootcert=''), 1))
check('verify-ca', lambda: same(ask(sslmode='verify-ca'), 1))
check('verify-full', lambda: [same(ask(), 1), asyncio.run(over_asyncpg())] and None)
check('wrong-name', lambda: fails(lambda: ask(host=WRONG_NAME), 'host name') and None)
check('wrong-authority', lambda: fails(lambda: ask(sslrootcert=OTHER_CA), 'certificate verify failed') and None)
check('binding', lambda: same(ask(channel_binding='require'), 1))
check('no-binding', lambda: same(ask(channel_binding='disable'), 1))
check('direct', lambda: same(ask(sslnegotiation='direct'), 1))
check('settings', lambda: ask(SETTINGS, application_name='tests and more', options='-c geqo=off -c search_path=a,b -c DateStyle=German -c TimeZone=Asia/Tokyo'))
check('wrong-password', lambda: fails(lambda: ask(password='wrong'), 'authentication failed for user') and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: ask(port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: ask(port=SILENT_PORT, connect_timeout=2), 'timeout') and None)

made = engine(prepare_threshold=0)
many = Table('many', MetaData(), Column('n', Integer), Column('b', Text), prefixes=['temporary'])


def prepared():
    with made.connect() as c:
        for n in range(1000):
            same(c.execute(text('select cast(:n as int) + 1'), dict(n=n)).scalar(), n + 1)
        assert c.exec_driver_sql('select count(*) from pg_prepared_statements').scalar()


check('prepared', prepared)


def pipeline():
    with made.connect() as c:
        many.create(c)
        c.execute(many.insert(), [dict(n=n, b=b) for n, b in ROWS])
        same([tuple(row) for row in c.execute(select(many).order_by(many.c.n))], ROWS)


check('pipeline', pipeline)


def of_the_driver(sql):
    """What SQLAlchemy leaves to the driver beneath."""
    raw = made.raw_connection()
    try:
        return sql(raw.driver_connection)
    finally:
        raw.close()


def copy():
    def whole(c):
        c.execute('create temp table t (n int, b text)')
        with c.cursor().copy('copy t from stdin') as to:
            to.write(AS_COPY)
        with c.cursor().copy('copy (select * from t order by n) to stdout') as out:
            same(b''.join(map(bytes, out)), AS_COPY)
    of_the_driver(whole)


check('copy', copy)


def notify():
    def whole(c):
        c.execute('listen alchemy')
        ask("select pg_notify('alchemy', repeat('x', 7000))")
        same([n.payload for n in c.notifies(timeout=10, stop_after=1)], ['x' * 7000])
    of_the_driver(whole)


check('notify', notify)


def large_object():
    with made.connect() as c:
        oid = c.execute(text('select lo_from_bytea(0, :blob)'), dict(blob=AS_COPY)).scalar()
        same(c.execute(text('select lo_get(:oid)'), dict(oid=oid)).scalar(), AS_COPY)
        same(c.execute(text('select lo_unlink(:oid)'), dict(oid=oid)).scalar(), 1)


check('large-object', large_object)


def cancel():
    with made.connect() as c:
        threading.Timer(0.3, c.connection.driver_connection.cancel).start()
        fails(lambda: c.exec_driver_sql('select pg_sleep(30)'), 'QueryCanceled')
        same(c.exec_driver_sql('select 1').scalar(), 1)


check('cancel', cancel)
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', options='-c statement_timeout=200'), 'QueryCanceled') and None)


def binary():
    with made.connect() as c:
        told = c.exec_driver_sql('select %b::int8, %b::bytea', (1 << 40, b'\0\xff' * 1000)).one()
        same(tuple(told), (1 << 40, b'\0\xff' * 1000))


check('binary', binary)


def error():
    with made.connect() as c:
        try:
            c.exec_driver_sql('select * from nowhere')
        except DBAPIError as e:
            return f'{e.orig.sqlstate} {e.orig.diag.message_primary}'


check('error', error)


def large_value():
    with made.connect() as c:
        same(c.execute(text('select cast(:large as text)'), dict(large=LARGE)).scalar(), LARGE)


check('large-value', large_value)
