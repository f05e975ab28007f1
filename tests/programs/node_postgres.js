// node-postgres, with pg-copy-streams for COPY.
'use strict'
const { Client, Query } = require('pg')
const copyStreams = require('pg-copy-streams')
const { pipeline } = require('stream/promises')
const { Readable } = require('stream')
const at = require('./checks')
const { check, fails, refused, same, sleep } = at

console.log(`version ${require('pg/package.json').version}`)

const ssl = more => ({ ca: at.ca, ...more })

async function connect(more) {
  const { host, port, user, password, database } = at
  const c = new Client({ host, port, user, password, database, ssl: ssl(), connectionTimeoutMillis: 20000, ...more })
  c.on('error', () => {})
  await c.connect()
  return c
}

async function one(c, text, values) {
  const { rows } = await c.query({ text, values, rowMode: 'array' })
  return rows[0][0]
}

async function ask(sql = 'select 1', more = {}) {
  const c = await connect(more)
  try {
    return await one(c, sql)
  } finally {
    await c.end()
  }
}

const all = async () => {
  await check('require', async () => same(await ask('select 1', { ssl: { rejectUnauthorized: false } }), 1))
  await check('verify-ca', async () => same(await ask('select 1', { ssl: ssl({ checkServerIdentity: () => undefined }) }), 1))
  await check('verify-full', async () => same(await ask(), 1))
  await check('wrong-name', async () => { await fails(() => ask('select 1', { host: '127.0.0.1', ssl: ssl({ servername: at.wrongName }) }), /ERR_TLS_CERT_ALTNAME_INVALID/) })
  await check('wrong-authority', async () => { await fails(() => ask('select 1', { ssl: { ca: at.otherCa } }), /UNABLE_TO_VERIFY|SELF_SIGNED|unable to/i) })
  await check('binding', async () => {
    const c = await connect({ enableChannelBinding: true })
    same(await one(c, 'select 1'), 1)
    await c.end()
  })
  await check('no-binding', async () => same(await ask('select 1', { enableChannelBinding: false }), 1))
  await check('direct', async () => same(await ask('select 1', { sslnegotiation: 'direct' }), 1))
  await check('settings', () => ask(at.SETTINGS, {
    application_name: "tests 'and' more", statement_timeout: 12345, lock_timeout: 2345, idle_in_transaction_session_timeout: 34567,
    options: '-c geqo=off --work-mem=1234kB -c search_path="a\\ b",c -c DateStyle=German -c TimeZone=Asia/Tokyo'
  }))
  await check('wrong-password', async () => { await fails(() => ask('select 1', { password: 'wrong' }), /^28P01 .*authentication failed for user/) })
  if (at.deniedPort) {
    await check('denied', () => refused(() => ask('select 1', { port: at.deniedPort })))
    await check('connect-timeout', async () => { await fails(() => ask('select 1', { port: at.silentPort, connectionTimeoutMillis: 1000 }), /timeout/) })
  }

  const c = await connect()
  await check('prepared', async () => {
    for (let n = 0; n < 1000; n++) same((await c.query({ name: 'plus', text: 'select $1::int + 1 as n', values: [n] })).rows[0].n, n + 1)
    same(await one(c, 'select count(*)::int from pg_prepared_statements'), 1)
  })
  await check('pipeline', async () => {
    const own = await connect({ pipeline: true })
    const rows = await Promise.all([...Array(500).keys()].map(n => one(own, 'select $1::text', [n])))
    same(rows.join(), [...Array(500).keys()].join())
    await own.end()
  })
  await check('copy', async () => {
    await c.query('create temp table t (n int, b text)')
    await pipeline(Readable.from([at.AS_COPY]), c.query(copyStreams.from('copy t from stdin')))
    const blocks = []
    for await (const block of c.query(copyStreams.to('copy (select * from t order by n) to stdout'))) blocks.push(block)
    same(Buffer.concat(blocks).equals(at.AS_COPY), true)
  })
  await check('notify', async () => {
    const heard = new Promise(done => c.on('notification', n => done(n.payload)))
    await c.query('listen node')
    await ask("select pg_notify('node', repeat('x', 7000))")
    same(await heard, 'x'.repeat(7000))
  })
  await check('large-object', async () => {
    const oid = await one(c, 'select lo_from_bytea(0, $1)', [at.AS_COPY])
    same((await one(c, 'select lo_get($1)', [oid])).equals(at.AS_COPY), true)
    same(await one(c, 'select lo_unlink($1)', [oid]), 1)
  })
  await check('cancel', async () => {
    // The one that carries the request must be without TLS: it sends it at once.
    const query = new Query('select pg_sleep(30)')
    const told = new Promise(done => query.on('error', done))
    c.query(query)
    await sleep(300)
    new Client({ host: at.host, port: at.port, ssl: false }).cancel(c, query)
    same((await told).code, '57014')
    same(await one(c, 'select 1'), 1)
  })
  await check('statement-timeout', async () => { await fails(() => ask('select pg_sleep(30)', { statement_timeout: 200 }), /^57014/) })
  await check('binary', async () => {
    const bytes = Buffer.alloc(2000, '\0\xff', 'latin1')
    same((await one(c, 'select $1::bytea', [bytes])).equals(bytes), true)
  })
  await check('error', async () => {
    const e = await fails(() => c.query('select * from nowhere'), /./)
    return `${e.code} ${e.message}`
  })
  await check('large-value', async () => same(await one(c, 'select $1::text', [at.LARGE]), at.LARGE))
  await c.end()
}

all().then(() => process.exit(0), e => { console.error(e); process.exit(1) })
