// Postgres.js.
'use strict'
const postgres = require('postgres')
const { pipeline } = require('stream/promises')
const { Readable } = require('stream')
const at = require('./checks')
const { check, cannot, fails, refused, same } = at

const main = require('path').dirname(require.resolve('postgres'))
console.log(`version ${JSON.parse(require('fs').readFileSync(`${main}/../../package.json`)).version}`)

function pool(more) {
  const { host, port, user, password, database } = at
  return postgres({ host, port, user, password, database, ssl: { ca: at.ca }, max: 1, connect_timeout: 20, onnotice: () => {}, fetch_types: false, ...more })
}

async function ask(text = 'select 1 as told', more = {}) {
  const sql = pool(more)
  try {
    return (await sql.unsafe(text))[0].told
  } finally {
    await sql.end({ timeout: 1 })
  }
}

const all = async () => {
  const one = 'select 1 as told'
  await check('require', async () => same(await ask(one, { ssl: 'require' }), 1))
  await check('verify-ca', async () => same(await ask(one, { ssl: { ca: at.ca, checkServerIdentity: () => undefined } }), 1))
  await check('verify-full', async () => same(await ask(), 1))
  await check('wrong-name', async () => { await fails(() => ask(one, { ssl: { ca: at.ca, servername: at.wrongName } }), /ERR_TLS_CERT_ALTNAME_INVALID/) })
  await check('wrong-authority', async () => { await fails(() => ask(one, { ssl: { ca: at.otherCa } }), /UNABLE_TO_VERIFY|SELF_SIGNED|unable to/i) })
  cannot('binding', 'it has only SCRAM-SHA-256')
  await check('no-binding', async () => same(await ask(), 1))
  await check('direct', async () => same(await ask(one, { sslnegotiation: 'direct' }), 1))
  await check('settings', () => ask(at.SETTINGS, {
    connection: { application_name: "tests 'and' more", statement_timeout: 12345, search_path: '"a b",c', DateStyle: 'German', TimeZone: 'Asia/Tokyo', options: '-c geqo=off --work-mem=1234kB' }
  }))
  await check('wrong-password', async () => { await fails(() => ask(one, { password: 'wrong' }), /^28P01 .*authentication failed for user/) })
  if (at.deniedPort) {
    await check('denied', () => refused(() => ask(one, { port: at.deniedPort })))
    await check('connect-timeout', async () => { await fails(() => ask(one, { port: at.silentPort, connect_timeout: 1 }), /CONNECT_TIMEOUT/) })
  }

  const sql = pool()
  await check('prepared', async () => {
    for (let n = 0; n < 1000; n++) same((await sql`select ${n}::int + 1 as n`)[0].n, n + 1)
    const [{ n }] = await sql`select count(*)::int as n from pg_prepared_statements where statement like 'select $1::int%'`
    same(n, 1)
  })
  await check('pipeline', async () => {
    const rows = await Promise.all([...Array(500).keys()].map(n => sql`select ${String(n)}::text as told`))
    same(rows.map(([row]) => row.told).join(), [...Array(500).keys()].join())
  })
  await check('copy', async () => {
    await sql`create temp table t (n int, b text)`
    await pipeline(Readable.from([at.AS_COPY]), await sql`copy t from stdin`.writable())
    const blocks = []
    for await (const block of await sql`copy (select * from t order by n) to stdout`.readable()) blocks.push(block)
    same(Buffer.concat(blocks).equals(at.AS_COPY), true)
  })
  await check('notify', async () => {
    let tell
    const heard = new Promise(done => { tell = done })
    const { unlisten } = await sql.listen('postgres_js', tell)
    await ask("select pg_notify('postgres_js', repeat('x', 7000)) as told")
    same(await heard, 'x'.repeat(7000))
    await unlisten()
  })
  await check('large-object', async () => {
    const blob = await sql.largeObject()
    await pipeline(Readable.from([at.AS_COPY]), await blob.writable())
    await blob.seek(0)
    const blocks = []
    for await (const block of await blob.readable()) blocks.push(block)
    await blob.close()
    same(Buffer.concat(blocks).equals(at.AS_COPY), true)
  })
  await check('cancel', async () => {
    const query = sql`select pg_sleep(30)`.execute()
    setTimeout(() => query.cancel(), 300)
    await fails(() => query, /^57014/)
    same((await sql`select 1 as n`)[0].n, 1)
  })
  await check('statement-timeout', async () => { await fails(() => ask('select pg_sleep(30)', { connection: { statement_timeout: 200 } }), /^57014/) })
  cannot('binary', 'it sends and asks for text')
  await check('error', async () => {
    const e = await fails(() => sql`select * from nowhere`, /./)
    return `${e.code} ${e.message}`
  })
  await check('large-value', async () => same((await sql`select ${at.LARGE}::text as told`)[0].told, at.LARGE))
  await sql.end({ timeout: 1 })
}

all().then(() => process.exit(0), e => { console.error(e); process.exit(1) })
