# ruby-pg, on the system's libpq. See checks.py for what a program prints.

require 'digest'
require 'pg'

$stdout.sync = true
puts "version #{PG::VERSION}, libpq #{PG.library_version / 10_000}"

def at(name) = ENV["AT_#{name}"]

SETTINGS = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'"
OPTIONS = '-c statement_timeout=12345 --work-mem=1234kB -c search_path="a\ b",c -c geqo=off -c DateStyle=German -c TimeZone=Asia/Tokyo'
LARGE = 'portcullis' * 2_000_000
AS_COPY = (0...50_000).map { |n| "#{n}\t#{Digest::SHA256.hexdigest(n.to_s)}\n" }.join

def check(name)
  seen = yield
  puts seen.is_a?(String) ? "ok #{name}: #{seen}" : "ok #{name}"
rescue StandardError => e
  puts "FAIL #{name}: #{e.class}: #{e.message}".gsub(/\s+/, ' ')
end

def cannot(name, why) = puts("no #{name}: #{why}")

def same(seen, expected)
  raise "#{seen.inspect[0, 200]} instead of #{expected.inspect[0, 200]}" unless seen == expected
end

# Runs what must fail, with this in the error; returns the error's text.
def fails(words)
  yield
rescue StandardError => e
  raise unless "#{e.class}: #{e.message}".match?(words)

  e.message
else
  raise 'it did not fail'
end

def connect(**more)
  PG.connect(host: at('HOST'), port: at('PORT'), user: at('USER'), password: at('PASSWORD'), dbname: at('DATABASE'),
             sslmode: 'verify-full', sslrootcert: at('CA'), connect_timeout: 20, **more)
end

def one(c, sql, *values) = c.exec_params(sql, values).getvalue(0, 0)

def ask(sql = 'select 1', **more)
  c = connect(**more)
  begin
    one(c, sql)
  ensure
    c.close
  end
end

check('require') { same(ask(sslmode: 'require', sslrootcert: ''), '1') }
check('verify-ca') { same(ask(sslmode: 'verify-ca'), '1') }
check('verify-full') { same(ask, '1') }
check('wrong-name') { fails(/host name/) { ask(host: '127.0.0.1') } && nil }
check('wrong-authority') { fails(/certificate verify failed/) { ask(sslrootcert: at('OTHER_CA')) } && nil }
check('binding') { same(ask(channel_binding: 'require'), '1') }
check('no-binding') { same(ask(channel_binding: 'disable'), '1') }
cannot('direct', 'libpq before 17 has only SSLRequest')
check('settings') { ask(SETTINGS, application_name: "tests 'and' more", client_encoding: 'LATIN1', options: OPTIONS) }
check('wrong-password') { fails(/authentication failed for user/) { ask(password: 'wrong') } && nil }
if at('DENIED_PORT')
  check('denied') { fails(/PC-/) { ask(port: at('DENIED_PORT')) }[/PC(-[0-9A-Z]{4}){3}/] }
  check('connect-timeout') { fails(/time/) { ask(port: at('SILENT_PORT'), connect_timeout: 2) } && nil }
end

c = connect
check('prepared') do
  c.prepare('plus', 'select $1::int + 1')
  1000.times { |n| same(c.exec_prepared('plus', [n]).getvalue(0, 0), (n + 1).to_s) }
end
check('pipeline') do
  c.enter_pipeline_mode
  500.times { |n| c.send_query_params('select $1::text', [n.to_s]) }
  c.pipeline_sync
  told = []
  while (result = c.get_result || c.get_result)
    break if result.result_status == PG::PGRES_PIPELINE_SYNC

    told << result.getvalue(0, 0)
  end
  c.exit_pipeline_mode
  same(told, (0...500).map(&:to_s))
end
check('copy') do
  c.exec('create temp table t (n int, b text)')
  c.copy_data('copy t from stdin') { c.put_copy_data(AS_COPY) }
  out = +''
  c.copy_data('copy (select * from t order by n) to stdout') do
    while (row = c.get_copy_data)
      out << row
    end
  end
  same(out, AS_COPY)
end
check('notify') do
  c.exec('listen ruby')
  ask("select pg_notify('ruby', repeat('x', 7000))")
  heard = nil
  c.wait_for_notify(10) { |_, _, payload| heard = payload }
  same(heard, 'x' * 7000)
end
check('large-object') do
  c.transaction do
    oid = c.lo_creat
    object = c.lo_open(oid, PG::INV_READ | PG::INV_WRITE)
    c.lo_write(object, AS_COPY)
    c.lo_lseek(object, 0, PG::SEEK_SET)
    same(c.lo_read(object, AS_COPY.bytesize), AS_COPY)
    c.lo_close(object)
    c.lo_unlink(oid)
  end
  nil
end
check('cancel') do
  c.send_query('select pg_sleep(30)')
  sleep 0.3
  c.cancel
  fails(/QueryCanceled/) { c.get_last_result }
  same(one(c, 'select 1'), '1')
end
check('statement-timeout') { fails(/QueryCanceled/) { ask('select pg_sleep(30)', options: '-c statement_timeout=200') } && nil }
check('binary') do
  bytes = "\0\xff".b * 1000
  told = c.exec_params('select $1::bytea, $2::int8', [{ value: bytes, format: 1 }, { value: [1 << 40].pack('q>'), format: 1 }], 1)
  same(told.getvalue(0, 0), bytes)
  same(told.getvalue(0, 1).unpack1('q>'), 1 << 40)
end
check('error') do
  c.exec('select * from nowhere')
rescue PG::Error => e
  "#{e.result.error_field(PG::PG_DIAG_SQLSTATE)} #{e.result.error_field(PG::PG_DIAG_MESSAGE_PRIMARY)}"
end
check('large-value') { same(one(c, 'select $1::text', LARGE), LARGE) }
