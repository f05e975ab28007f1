"""What the programs in Python share: where to connect, and how a check is told.

A program prints one line for each check: `ok NAME`, `ok NAME: WHAT WAS SEEN`, `part NAME: WHAT THE
DRIVER LACKS`, `no NAME: WHY THE DRIVER CANNOT`, or `FAIL NAME: WHY`. Nothing is left out in silence.
"""

import hashlib
import os
import re

HOST, PORT = os.environ['AT_HOST'], int(os.environ['AT_PORT'])
USER, PASSWORD, DATABASE = os.environ['AT_USER'], os.environ['AT_PASSWORD'], os.environ['AT_DATABASE']
CA, OTHER_CA = os.environ['AT_CA'], os.environ['AT_OTHER_CA']
# A port that policy closes, and one that accepts and never answers: only in some runs.
DENIED_PORT, SILENT_PORT = (int(os.environ.get(name, 0)) for name in ('AT_DENIED_PORT', 'AT_SILENT_PORT'))
# The certificate is for HOST; nobody's is for this address.
WRONG_NAME = '127.0.0.1'

SETTINGS = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'"
LARGE = 'portcullis' * 2_000_000
ROWS = [(n, hashlib.sha256(str(n).encode()).hexdigest()) for n in range(50_000)]
AS_COPY = ''.join(f'{n}\t{text}\n' for n, text in ROWS).encode()


def check(name, run):
    try:
        seen = run()
    except Exception as error:
        seen = ' '.join(f'{type(error).__name__}: {error}'.split())
        print(f'FAIL {name}: {seen}', flush=True)
    else:
        print(f'ok {name}' if seen is None else f'ok {name}: {seen}', flush=True)


def cannot(name, why):
    print(f'no {name}: {why}', flush=True)


def fails(run, *words):
    """Runs what must fail, with one of these words in the error; returns the error's text."""
    try:
        run()
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        assert re.search('|'.join(words), text, re.I), text
        return text
    raise AssertionError('it did not fail')


def refused(run):
    """Runs what policy must deny; returns the reference that the driver shows."""
    return re.search(r'PC(-[0-9A-Z]{4}){3}', fails(run, 'PC-')).group()


def same(seen, expected):
    assert seen == expected, f'{seen!r:.200} instead of {expected!r:.200}'
