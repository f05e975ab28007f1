"""asyncpg."""

import asyncio
import io
import ssl

import asyncpg

from checks import *

print(f'version {asyncpg.__version__}')


def context(ca=CA, name=True):
    made = ssl.create_default_context(cafile=ca)
    made.check_hostname = name
    return made


async def connect(**more):
    told = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl=context(), timeout=20)
    return await asyncpg.connect(**(told | more))


async def asked(sql, more):
    c = await connect(**more)
    try:
        return await c.fetchval(sql)
    finally:
        await c.close()


def ask(sql='select 1', **more):
    return asyncio.run(asked(sql, more))


check('require', lambda: same(ask(ssl='require'), 1))
check('verify-ca', lambda: same(ask(ssl=context(name=False)), 1))
check('verify-full', lambda: same(ask(), 1))
check('wrong-name', lambda: fails(lambda: ask(host=WRONG_NAME), 'IP address mismatch') and None)
check('wrong-authority', lambda: fails(lambda: ask(ssl=context(OTHER_CA)), 'certificate verify failed') and None)
cannot('binding', 'it has only SCRAM-SHA-256')
check('no-binding', lambda: same(ask(), 1))


def direct():
    # A context of one's own must name the protocol.
    own = context()
    own.set_alpn_protocols(['postgresql'])
    same(ask(direct_tls=True, ssl=own), 1)


check('direct', direct)


def settings():
    sent = dict(application_name="tests 'and' more", search_path='"a b",c', DateStyle='German', TimeZone='Asia/Tokyo', options='-c geqo=off --work-mem=1234kB')
    return ask(SETTINGS, server_settings=sent)


check('settings', settings)
check('wrong-password', lambda: fails(lambda: ask(password='wrong'), 'InvalidPasswordError') and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: ask(port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: ask(port=SILENT_PORT, timeout=1), 'Timeout') and None)


def session(run):
    """One session for one check, in an event loop of its own."""
    async def whole():
        c = await connect()
        try:
            return await run(c)
        finally:
            await c.close()
    return lambda: asyncio.run(whole())


async def prepared(c):
    statement = await c.prepare('select $1::int + 1')
    for n in range(1000):
        same(await statement.fetchval(n), n + 1)


check('prepared', session(prepared))


async def pipeline(c):
    await c.execute('create temp table many (n int)')
    await c.executemany('insert into many values ($1)', [(n,) for n in range(5000)])
    same(await c.fetchval('select sum(n) from many'), sum(range(5000)))


check('pipeline', session(pipeline))


async def copy(c):
    await c.execute('create temp table t (n int, b text)')
    await c.copy_to_table('t', source=io.BytesIO(AS_COPY))
    out = io.BytesIO()
    await c.copy_from_query('select * from t order by n', output=out)
    same(out.getvalue(), AS_COPY)
    await c.execute('truncate t')
    await c.copy_records_to_table('t', records=ROWS)
    same([tuple(row) for row in await c.fetch('select * from t order by n')], ROWS)


check('copy', session(copy))


async def notify(c):
    heard = asyncio.get_running_loop().create_future()
    await c.add_listener('asyncpg', lambda c, pid, channel, payload: heard.set_result(payload))
    await asked("select pg_notify('asyncpg', repeat('x', 7000))", {})
    same(await asyncio.wait_for(heard, 10), 'x' * 7000)
    await c.reset()


check('notify', session(notify))


async def large_object(c):
    oid = await c.fetchval('select lo_from_bytea(0, $1)', AS_COPY)
    same(await c.fetchval('select lo_get($1)', oid), AS_COPY)
    same(await c.fetchval('select lo_unlink($1)', oid), 1)


check('large-object', session(large_object))


async def cancel(c):
    # Cancelled by the driver when its own time is up, and when its task is.
    try:
        await c.fetchval('select pg_sleep(30)', timeout=0.3)
    except asyncio.TimeoutError:
        pass
    same(await c.fetchval('select 1'), 1)
    task = asyncio.ensure_future(c.fetchval('select pg_sleep(30)'))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    same(await c.fetchval('select 1'), 1)


check('cancel', session(cancel))
check('statement-timeout', lambda: fails(lambda: ask('select pg_sleep(30)', server_settings=dict(statement_timeout='200')), 'QueryCanceled') and None)


async def binary(c):
    told = await c.fetchrow('select $1::int8, $2::bytea, array[1.5, 2.5]::float8[]', 1 << 40, b'\0\xff' * 1000)
    same(tuple(told), (1 << 40, b'\0\xff' * 1000, [1.5, 2.5]))


check('binary', session(binary))


async def error(c):
    try:
        await c.execute('select * from nowhere')
    except asyncpg.PostgresError as e:
        return f'{e.sqlstate} {e.message}'


check('error', session(error))


async def large_value(c):
    same(await c.fetchval('select $1::text', LARGE), LARGE)


check('large-value', session(large_value))
