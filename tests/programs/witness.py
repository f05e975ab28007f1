"""Asks a witness to cosign checkpoints, as a log would; written from the C2SP texts alone.

    witness.py URL LOG-SEED VKEY ORIGIN STEPS-FILE

Each line of STEPS is `HISTORY OLD NEW EXPECTED`: a checkpoint of NEW entries of a history, with the proof that
it begins with OLD entries, and the status that the specification asks for. Histories are texts: entry N of
history H is `N of H` if N is not less than the number that H begins with, else `N`. `garbage` instead sends
bytes that are no request, and expects 400.
LOG-SEED is the log's Ed25519 seed in hexadecimal, VKEY the witness's key. Every cosignature is checked.
Ends with 0 if every answer was as expected; with 1, and a sentence, if not. It shares no code with what it asks.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SIZE_TYPE = 'text/x.tlog.size'  # tlog-witness, add-checkpoint.


class Wrong(Exception):
    """An answer that the specification does not allow, as a sentence."""


def main(arguments: list[str]) -> int:
    url, seed, vkey, origin, steps = arguments
    log = Log(origin, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    witness = Witness(url, vkey)
    try:
        for number, line in enumerate(Path(steps).read_text(encoding='utf-8').splitlines(), 1):
            words = line.split()
            if words[0] == 'garbage':
                send_garbage(witness, log)
                continue
            history, old, new, expected = words[0], int(words[1]), int(words[2]), int(words[3])
            entries = [log.entry(history, n) for n in range(new)]
            status = witness.ask(log.request(entries, old), log.text(entries))
            if status != expected:
                raise Wrong(f'line {number}: {line}: it answered {status}')
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    print('ok', witness.size)
    return 0


def send_garbage(witness: Witness, log: Log) -> None:
    """Near misses and nonsense; none of it may be answered by anything but a refusal."""
    good = log.request([b'x'] * 3, 0)
    bad = [b'', b'\n', b'\n\n', b'old 0', b'old 0\n\n', b'\xff\xfe\n\n\xff', b'old 00' + good[5:], good[:-1]]
    bad += [good.replace(b'old 0', b'old 4'), b'old 0\nAAAA\n' + good[6:], b'old 0\n' + b'A' * 43 + b'=\n' * 64]
    draw = random.Random(7)
    bad += [draw.randbytes(draw.randrange(400)) for _ in range(16)]
    for body in bad:
        status, _, _ = witness.post(body)
        if status != 400:
            raise Wrong(f'{body[:60]!r} was answered {status}')


class Log:
    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self.origin, self.key = origin, key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        name = origin.encode() + b'\n\x01' + public  # signed-note, Signatures.
        self.id = hashlib.sha256(name).digest()[:4]

    @staticmethod
    def entry(history: str, number: int) -> bytes:
        begins = int(re.match('[0-9]*', history)[0] or 0)
        return f'{number} of {history}'.encode() if history != 'main' and number >= begins else b'%d' % number

    def text(self, entries: list[bytes]) -> str:
        return f'{self.origin}\n{len(entries)}\n{to_base64(tree_hash(entries))}\n'

    def request(self, entries: list[bytes], old: int) -> bytes:
        """tlog-witness, add-checkpoint; tlog-checkpoint; signed-note."""
        text = self.text(entries)
        signature = to_base64(self.id + self.key.sign(text.encode()))
        proof = ''.join(to_base64(hash) + '\n' for hash in consistency(old, entries))
        return f'old {old}\n{proof}\n{text}\n\u2014 {self.origin} {signature}\n'.encode()


class Witness:
    def __init__(self, url: str, vkey: str) -> None:
        place = urlsplit(url)
        self.connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        self.prefix = place.path.rstrip('/')
        self.name, id, material = vkey.split('+', 2)
        key = base64.b64decode(material, validate=True)
        if key[:1] != b'\x04' or len(key) != 33:  # tlog-cosignature, Format.
            raise SystemExit('this is no key of a cosignature')
        if hashlib.sha256(self.name.encode() + b'\n' + key).digest()[:4].hex() != id:
            raise SystemExit('the id of the key is wrong')
        self.id, self.key = bytes.fromhex(id), Ed25519PublicKey.from_public_bytes(key[1:])
        self.size: int | None = None

    def ask(self, body: bytes, text: str) -> int:
        status, kind, answer = self.post(body)
        if status == 200:
            self.check(answer, text)
            self.size = int(text.split('\n')[1])
        if status == 409:
            if kind != SIZE_TYPE or not re.fullmatch(rb'(0|[1-9][0-9]*)\n', answer):
                raise Wrong(f'a conflict was told as {kind}: {answer!r}')
            if self.size is not None and int(answer) != self.size:
                raise Wrong(f'it tells the size {int(answer)}, and cosigned {self.size} last')
            self.size = int(answer)
        return status

    def post(self, body: bytes) -> tuple[int, str | None, bytes]:
        for _ in range(600):
            self.connection.request('POST', f'{self.prefix}/add-checkpoint', body)
            reply = self.connection.getresponse()
            answer = reply.status, reply.getheader('Content-Type'), reply.read()
            if reply.status != 429:
                return answer
            time.sleep(0.1)
        raise Wrong('it has no time')

    def check(self, answer: bytes, text: str) -> None:
        """One or more lines of cosignatures, of which ours must be one."""
        lines = answer.decode().splitlines(keepends=True)
        ours = 0
        for line in lines:
            found = re.fullmatch('\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)\n', line)
            if not found:
                raise Wrong(f'{line!r} is no signature')
            content = base64.b64decode(found[2], validate=True)
            if found[1] != self.name or content[:4] != self.id:
                continue
            at = int.from_bytes(content[4:12], 'big')
            try:
                self.key.verify(content[12:], b'cosignature/v1\ntime %d\n' % at + text.encode())
            except InvalidSignature:
                raise Wrong('the cosignature does not hold') from None
            if abs(at - time.time()) > 600:
                raise Wrong(f'it was cosigned at {at}')
            ours += 1
        if ours != 1:
            raise Wrong(f'{ours} cosignatures of the witness')


# The tree: RFC 6962, section 2.1.


def tree_hash(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b'\x00' + entries[0]).digest()
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return hashlib.sha256(b'\x01' + tree_hash(entries[:split]) + tree_hash(entries[split:])).digest()


def consistency(old: int, entries: list[bytes]) -> list[bytes]:
    """PROOF(m, D[n]): RFC 6962, section 2.1.2."""

    def subproof(m: int, part: list[bytes], known: bool) -> list[bytes]:
        if m == len(part):
            return [] if known else [tree_hash(part)]
        split = 1 << ((len(part) - 1).bit_length() - 1)
        if m <= split:
            return subproof(m, part[:split], known) + [tree_hash(part[split:])]
        return subproof(m - split, part[split:], False) + [tree_hash(part[:split])]

    return subproof(old, entries, True) if 0 < old < len(entries) else []


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


if __name__ == '__main__':
    if len(sys.argv) != 6:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
