// What the programs in JavaScript share: see checks.py for what a program prints.
'use strict'
const { createHash } = require('crypto')
const env = process.env

exports.host = env.AT_HOST
exports.port = Number(env.AT_PORT)
exports.user = env.AT_USER
exports.password = env.AT_PASSWORD
exports.database = env.AT_DATABASE
exports.ca = require('fs').readFileSync(env.AT_CA)
exports.otherCa = require('fs').readFileSync(env.AT_OTHER_CA)
exports.deniedPort = Number(env.AT_DENIED_PORT || 0)
exports.silentPort = Number(env.AT_SILENT_PORT || 0)
// The certificate is for `host`. (An address would not do: for one, node checks the certificate
// against "localhost".)
exports.wrongName = 'wrong.example'

exports.SETTINGS = "select string_agg(name || '=' || setting, '; ' order by name) as told from pg_settings where source = 'client'"
exports.LARGE = 'portcullis'.repeat(2000000)
const rows = [...Array(50000).keys()].map(n => `${n}\t${createHash('sha256').update(String(n)).digest('hex')}\n`)
exports.AS_COPY = Buffer.from(rows.join(''))

exports.check = async (name, run) => {
  try {
    const seen = await run()
    console.log(seen === undefined ? `ok ${name}` : `ok ${name}: ${seen}`)
  } catch (e) {
    console.log(`FAIL ${name}: ${String(e.code)} ${e.message}`.replace(/\s+/g, ' '))
  }
}

exports.cannot = (name, why) => console.log(`no ${name}: ${why}`)

// Runs what must fail, with this in the error's code or message.
exports.fails = async (run, words) => {
  const error = await run().then(() => new Error('it did not fail'), e => e)
  if (!words.test(`${error.code} ${error.message}`)) throw error
  return error
}

// Runs what policy must deny; returns the reference that the driver shows.
exports.refused = async run => /PC(-[0-9A-Z]{4}){3}/.exec((await exports.fails(run, /^28000 .*PC-/)).message)[0]

exports.same = (seen, expected) => {
  if (seen !== expected) throw new Error(`${String(seen).slice(0, 200)} instead of ${String(expected).slice(0, 200)}`)
}

exports.sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds))
