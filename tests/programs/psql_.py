"""psql, on the system's libpq, as a person or a script runs it."""

import pty
import subprocess
import time

from checks import *

SCRATCH = os.environ['AT_SCRATCH']


def conninfo(**more):
    told = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode='verify-full', sslrootcert=CA, connect_timeout=20) | more
    quoted = lambda value: str(value).replace('\\', '\\\\').replace("'", "\\'")
    return ' '.join(f"{name}='{quoted(value)}'" for name, value in told.items())


def psql(script, **more):
    """Feeds a script; its output, or its complaint as an exception."""
    command = ['psql', '--no-psqlrc', '--quiet', '--tuples-only', '--no-align', '--set', 'ON_ERROR_STOP=1', conninfo(**more)]
    told = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    if told.returncode:
        raise Exception(told.stderr)
    return told.stdout.rstrip('\n')


def interrupted(line):
    """Types a line at a terminal, presses Ctrl-C while it runs and types another; all that is seen."""
    pid, terminal = pty.fork()
    if not pid:
        os.execlp('psql', 'psql', '--no-psqlrc', '--quiet', '--no-readline', '--pset=pager=off', conninfo(application_name='to be interrupted'))
    os.write(terminal, f'{line}\n'.encode())
    sleeping = "select count(*) from pg_stat_activity where application_name = 'to be interrupted' and wait_event = 'PgSleep'"
    for _ in range(100):
        if psql(sleeping) == '1':
            break
        time.sleep(0.1)
    os.write(terminal, b"\x03")
    os.write(terminal, b"select 'ali' || 've';\n\\q\n")
    seen = b''
    try:
        while block := os.read(terminal, 4096):
            seen += block
    except OSError:
        pass  # the terminal's end, once psql is gone
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen.decode()


print('version psql and libpq', psql("\\echo :VERSION_NUM").split('.')[0][:-4])

check('require', lambda: same(psql('select 1', sslmode='require', sslrootcert=''), '1'))
check('verify-ca', lambda: same(psql('select 1', sslmode='verify-ca'), '1'))
check('verify-full', lambda: same(psql('select 1'), '1'))
check('wrong-name', lambda: fails(lambda: psql('select 1', host=WRONG_NAME), 'host name') and None)
check('wrong-authority', lambda: fails(lambda: psql('select 1', sslrootcert=OTHER_CA), 'certificate verify failed') and None)
check('binding', lambda: same(psql('select 1', channel_binding='require'), '1'))
check('no-binding', lambda: same(psql('select 1', channel_binding='disable'), '1'))
cannot('direct', 'libpq before 17 has only SSLRequest')


def settings():
    options = r'-c statement_timeout=12345 --work-mem=1234kB -c search_path="a\ b",c -c geqo=off -c DateStyle=German -c TimeZone=Asia/Tokyo'
    return psql(SETTINGS, application_name="tests 'and' more", client_encoding='LATIN1', options=options)


check('settings', settings)
check('wrong-password', lambda: fails(lambda: psql('select 1', password='wrong'), 'authentication failed for user') and None)
if DENIED_PORT:
    check('denied', lambda: refused(lambda: psql('select 1', port=DENIED_PORT)))
    check('connect-timeout', lambda: fails(lambda: psql('select 1', port=SILENT_PORT, connect_timeout=2), 'timeout') and None)


def prepared():
    executions = ''.join(f'execute plus ({n});\n' for n in range(1000))
    same(psql('prepare plus (int) as select $1 + 1;\n' + executions), '\n'.join(str(n + 1) for n in range(1000)))


check('prepared', prepared)
cannot('pipeline', 'one statement at a time')


def copy():
    there, back = f'{SCRATCH}/there', f'{SCRATCH}/back'
    with open(there, 'wb') as file:
        file.write(AS_COPY)
    psql(f"create temp table t (n int, b text);\n\\copy t from '{there}'\n\\copy (select * from t order by n) to '{back}'\n")
    with open(back, 'rb') as file:
        same(file.read(), AS_COPY)


check('copy', copy)
check('notify', lambda: same(psql("listen psql; select pg_notify('psql', repeat('x', 7000));").count('x' * 7000), 1))


def large_object():
    there, back = f'{SCRATCH}/there', f'{SCRATCH}/back'
    psql(f"\\lo_import '{there}'\n\\lo_export :LASTOID '{back}'\n\\lo_unlink :LASTOID\n")
    with open(back, 'rb') as file:
        same(file.read(), AS_COPY)


check('large-object', large_object)


def cancel():
    for line in ('select pg_sleep(30);', 'select 1, pg_sleep(30) \\watch 1'):
        told = interrupted(line)
        assert 'canceling statement due to user request' in told and 'alive' in told, told


check('cancel', cancel)
check('statement-timeout', lambda: fails(lambda: psql('select pg_sleep(30)', options='-c statement_timeout=200'), 'statement timeout') and None)
cannot('binary', 'it sends and asks for text')
check('error', lambda: re.search(r'42P01: .*', fails(lambda: psql('\\set VERBOSITY verbose\nselect * from nowhere;'), '42P01')).group())
check('large-value', lambda: same(psql(f"select '{LARGE}'"), LARGE))
