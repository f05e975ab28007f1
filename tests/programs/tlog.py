"""Checks a transparency log, a proof from one, or that one only grew; written from the C2SP texts alone.

    tlog.py log DIR POLICY             prints `ok ORIGIN SIZE ENTRIES`
    tlog.py proof FILE POLICY ENTRY    prints `ok ORIGIN INDEX SIZE`
    tlog.py consistent DIR OLD POLICY  prints `ok OLDSIZE NEWSIZE`

Ends with 0 only when everything holds; with 1, and a sentence on stderr, when something does not; with 2
when it was called wrongly. It shares no code with what it checks: it is there to disagree. It reads no
clock, so a cosignature from the future is not refused (tlog-cosignature lets a verifier choose). A log
that was pruned does not hold: every entry is asked for. Of signatures it knows Ed25519 by a log (0x01)
and Ed25519 with a time by a witness (0x04).
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256  # Hashes in a full tile, entries in a full bundle: tlog-tiles, Merkle Tree.
HASH = 32
LOG, WITNESS = 0x01, 0x04  # signed-note, Signature types.
LATEST = 2**63 - 1  # The last time a cosignature may carry: tlog-cosignature, Format.
LARGEST = 2**64 - 1  # Sizes and indices; tlog-cosignature gives them 64 bits.
MOST_SIGNATURES = 128  # signed-note, Format: a limit of ours, 16 at least.
MOST_BYTES = 1_000_000  # Of a policy, a proof or a checkpoint.


class Wrong(Exception):
    """Something that does not hold, as a sentence."""


def refuse_if(wrong: bool, sentence: str) -> None:
    if wrong:
        raise Wrong(sentence)


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ['log', folder, policy]:
                print('ok', *check_log(Path(folder), Path(policy)))
            case ['proof', proof, policy, entry]:
                print('ok', *check_proof(Path(proof), Path(policy), Path(entry)))
            case ['consistent', folder, old, policy]:
                print('ok', *check_consistent(Path(folder), Path(old), Path(policy)))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    except OSError as error:
        print(f'{error.filename} cannot be read: {error.strerror}', file=sys.stderr)
        return 1
    return 0


def check_log(folder: Path, policy_file: Path) -> tuple[str, int, int]:
    """Every file of a log that is served from static files: tlog-tiles, APIs."""
    policy = Policy.parse(read(policy_file))
    checkpoint = Checkpoint.parse(read(folder / 'checkpoint'), 'the checkpoint')
    policy.check_signatures(checkpoint)
    policy.check_quorum(checkpoint)
    return checkpoint.origin, checkpoint.size, len(check_tree(folder, checkpoint))


def check_proof(proof_file: Path, policy_file: Path, entry_file: Path) -> tuple[str, int, int]:
    """A proof in one file: tlog-proof, Format."""
    policy = Policy.parse(read(policy_file))
    proof = Proof.parse(read(proof_file))
    policy.check_signatures(proof.checkpoint)
    policy.check_quorum(proof.checkpoint)
    proof.check_inclusion(leaf_hash(entry_file.read_bytes()))
    return proof.checkpoint.origin, proof.index, proof.checkpoint.size


def check_consistent(folder: Path, old_file: Path, policy_file: Path) -> tuple[int, int]:
    """That a log only grew (tlog-checkpoint, Signatures), by building the older tree from today's entries.

    The quorum is asked for last: a log that signed two histories is told apart even if no witness saw one of them.
    """
    policy = Policy.parse(read(policy_file))
    old = Checkpoint.parse(read(old_file), 'the older checkpoint')
    new = Checkpoint.parse(read(folder / 'checkpoint'), 'the checkpoint')
    for checkpoint in (old, new):
        policy.check_signatures(checkpoint)
    if old.origin != new.origin:
        raise Wrong(f'the checkpoints are of two logs: the older of {old.origin}, the newer of {new.origin}')
    leaves = check_tree(folder, new)
    refuse_if(old.size > new.size, f'the log became shorter: it had {old.size} entries and has {new.size}')
    if tree_hash(leaves[: old.size]) != old.root:
        raise Wrong(
            f'this is a fork: the log signed another tree of {old.size} entries than it has now; '
            f'the older checkpoint and the newer follow\n\n{old.note}\n{new.note}'
        )
    for checkpoint in (old, new):
        policy.check_quorum(checkpoint)
    return old.size, new.size


# The files of a log: tlog-tiles.

ENTRIES = -1  # Entry bundles, among the levels: beneath level 0.
NAME = re.compile(r'tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?')


@dataclass(frozen=True)
class Tile:
    """A tile or a bundle by its place: tlog-tiles, Merkle Tree and Partial Tiles."""

    level: int
    index: int
    width: int

    @staticmethod
    def parse(name: str) -> Tile:
        found = NAME.fullmatch(name)
        if found:
            level = ENTRIES if found[1] == 'entries' else int(found[1])
            tile = Tile(level, int(re.sub('[x/]', '', found[2])), int(found[3] or WIDTH))
            if level <= 63 and 0 < tile.width and str(tile) == name:
                return tile
        raise Wrong(f'{name} is not the canonical name of a tile or of an entry bundle')

    def __str__(self) -> str:
        number, rest = f'{self.index % 1000:03}', self.index // 1000
        while rest:
            number, rest = f'x{rest % 1000:03}/{number}', rest // 1000
        level = 'entries' if self.level == ENTRIES else str(self.level)
        return f'tile/{level}/{number}' + (f'.p/{self.width}' if self.width < WIDTH else '')


def check_tree(folder: Path, checkpoint: Checkpoint) -> list[bytes]:
    """Every bundle, every tile and the root; returns the leaf hashes up to the checkpoint.

    Files may reach past the checkpoint, as a full tile that stands for a partial one does, and partial
    tiles of older checkpoints may remain: these are held to agree with the others, too.
    """
    found = [path for path in sorted((folder / 'tile').rglob('*')) if path.is_symlink() or not path.is_dir()]
    present = {Tile.parse(path.relative_to(folder).as_posix()) for path in found}
    for tile in needed(checkpoint.size):
        missing = present.isdisjoint([tile, Tile(tile.level, tile.index, WIDTH)])
        refuse_if(missing, f'{tile} is missing: a tree of {checkpoint.size} entries needs it')

    hashes: dict[tuple[int, int], list[bytes]] = {}  # By level and index, from the widest file.
    wider, wider_content = Tile(ENTRIES, -1, 0), b''
    for tile in sorted(present, key=lambda tile: (tile.level, tile.index, -tile.width)):
        content = (folder / str(tile)).read_bytes()
        parsed = entry_hashes(tile, content) if tile.level == ENTRIES else tile_hashes(tile, content)
        if (tile.level, tile.index) not in hashes:
            hashes[tile.level, tile.index], wider, wider_content = parsed, tile, content
        elif not wider_content.startswith(content):
            raise Wrong(f'{tile} is not the beginning of {wider}')
    for (level, index), parsed in sorted(hashes.items()):
        if level == ENTRIES:
            for place, (entry, leaf) in enumerate(zip(parsed, hashes.get((0, index), []))):
                beside = f'the hash at place {place} of {Tile(0, index, WIDTH)}'
                refuse_if(entry != leaf, f'entry {index * WIDTH + place} does not have {beside}')
        for place, above in enumerate(parsed if level > 0 else []):  # tlog-tiles, Merkle Tree.
            tile, below = Tile(level, index, len(parsed)), Tile(level - 1, index * WIDTH + place, WIDTH)
            under = hashes.get((below.level, below.index), [])
            refuse_if(len(under) != WIDTH, f'{tile} has a hash at place {place}, but {below} is not there')
            refuse_if(tree_hash(under) != above, f'{below} does not have the hash at place {place} of {tile}')

    bundles = range(-(-checkpoint.size // WIDTH))
    leaves = [leaf for index in bundles for leaf in hashes[ENTRIES, index]][: checkpoint.size]
    wrong_root = tree_hash(leaves) != checkpoint.root
    refuse_if(wrong_root, f'the root of the {len(leaves)} entries is not the root of the checkpoint')
    return leaves


def needed(size: int) -> Iterator[Tile]:
    """The tiles and bundles that a tree of this size consists of: tlog-tiles, Partial Tiles."""
    for level in range(ENTRIES, 64):
        nodes = size >> (8 * max(level, 0))
        for index in range(nodes // WIDTH):
            yield Tile(level, index, WIDTH)
        if nodes % WIDTH:
            yield Tile(level, nodes // WIDTH, nodes % WIDTH)


def tile_hashes(tile: Tile, content: bytes) -> list[bytes]:
    refuse_if(len(content) != tile.width * HASH, f'{tile} is {len(content)} bytes long, not {tile.width * HASH}')
    return [content[at : at + HASH] for at in range(0, len(content), HASH)]


def entry_hashes(tile: Tile, content: bytes) -> list[bytes]:
    """The leaf hashes of a bundle: tlog-tiles, Log entries."""
    hashes: list[bytes] = []
    at = 0
    while at < len(content):
        start = at + 2
        at = start + int.from_bytes(content[at:start], 'big')
        if start > len(content) or at > len(content):
            raise Wrong(f'{tile} ends in the middle of entry {tile.index * WIDTH + len(hashes)}')
        hashes.append(leaf_hash(content[start:at]))
    refuse_if(len(hashes) != tile.width, f'{tile} holds {len(hashes)} entries, not {tile.width}')
    return hashes


# The tree: RFC 6962, section 2.1.


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b'\x00' + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b'\x01' + left + right).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH, of leaf hashes: RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


@dataclass(frozen=True)
class Proof:
    index: int
    path: list[bytes]
    checkpoint: Checkpoint

    @staticmethod
    def parse(file: bytes) -> Proof:
        """An inclusion proof and its checkpoint in one file: tlog-proof, Format."""
        head, blank, note = file.partition(b'\n\n')
        lines = as_text(head, 'the proof').split('\n')
        refuse_if(not blank, 'the proof has no empty line before its checkpoint')
        refuse_if(lines.pop(0) != 'c2sp.org/tlog-proof@v1', 'the proof does not begin with c2sp.org/tlog-proof@v1')
        if lines and lines[0].startswith('extra '):
            extra = from_base64(lines.pop(0).removeprefix('extra '), 'the extra data of the proof')
            refuse_if(extra == b'', 'the proof has a line for extra data, and none in it')
        refuse_if(not lines or not lines[0].startswith('index '), 'the proof has no index where one belongs')
        index = from_decimal(lines.pop(0).removeprefix('index '), 'the index of the proof')
        path = [from_base64(line, f'hash {at} of the proof', HASH) for at, line in enumerate(lines)]
        return Proof(index, path, Checkpoint.parse(note, 'the checkpoint of the proof'))

    def check_inclusion(self, hash: bytes) -> None:
        """RFC 9162, section 2.1.3.2."""
        size = self.checkpoint.size
        refuse_if(self.index >= size, f'the proof is for entry {self.index} of a tree of {size} entries')
        node, last = self.index, size - 1
        for sibling in self.path:
            refuse_if(last == 0, 'the proof has more hashes than its tree has levels')
            if node & 1 or node == last:
                hash = node_hash(sibling, hash)
                while node & 1 == 0 and node != 0:
                    node, last = node >> 1, last >> 1
            else:
                hash = node_hash(hash, sibling)
            node, last = node >> 1, last >> 1
        refuse_if(last != 0, 'the proof has fewer hashes than its tree has levels')
        if hash != self.checkpoint.root:
            raise Wrong(f'the proof does not lead from the entry at {self.index} to the root of the checkpoint')


# Checkpoints: signed-note, tlog-checkpoint.


@dataclass(frozen=True)
class Checkpoint:
    what: str
    note: str
    text: str
    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]  # Of whom, the key's id, and the signature itself.

    @staticmethod
    def parse(file: bytes, what: str) -> Checkpoint:
        """signed-note, Format; tlog-checkpoint, Note text."""
        note = as_text(file, what)
        end = note.rfind('\n\n')
        text, signed = note[: end + 1], note[end + 2 :]
        if end < 0 or not signed.endswith('\n'):
            raise Wrong(f'{what} is not a signed note: text, an empty line, lines of signatures')
        lines = signed[:-1].split('\n')
        refuse_if(len(lines) > MOST_SIGNATURES, f'{what} has more than {MOST_SIGNATURES} signatures')
        signatures = [parse_signature(line, what) for line in lines]
        body = text[:-1].split('\n')
        refuse_if(len(body) < 3 or '' in body, f'{what} is not three or more lines, none of them empty')
        size = from_decimal(body[1], f'the size in {what}')
        root = from_base64(body[2], f'the root in {what}', HASH)
        return Checkpoint(what, note, text, body[0], size, root, signatures)


def parse_signature(line: str, what: str) -> tuple[str, bytes, bytes]:
    dash, name, encoded = line.split(' ') if line.count(' ') == 2 else ('', '', '')
    if dash != '\u2014' or not is_key_name(name):
        raise Wrong(f'{what} has a line among its signatures that is none: {line!r}')
    content = from_base64(encoded, f'the signature of {name} under {what}')
    refuse_if(len(content) <= 4, f'the signature of {name} under {what} is too short')
    return name, content[:4], content[4:]


# Keys and policies: signed-note, Signatures; tlog-cosignature; tlog-policy.


@dataclass(frozen=True)
class Key:
    name: str
    id: bytes
    type: int
    public: bytes

    @staticmethod
    def parse(item: bytes, type: int, where: str) -> Key:
        """`NAME+ID+BASE64`, the id in lower-case hex: signed-note, Verifier keys."""
        parts = as_text(item, where).split('+', 2)
        if len(parts) != 3 or not is_key_name(parts[0]) or not re.fullmatch('[0-9a-f]{8}', parts[1]):
            raise Wrong(f'{where} has a key that is not a name, eight hex digits and base64 with + between')
        material = from_base64(parts[2], f'{where}: the key of {parts[0]}')
        refuse_if(material[:1] != bytes([type]), f'{where}: the key of {parts[0]} is not of type 0x{type:02x}')
        refuse_if(len(material) != 1 + HASH, f'{where}: the key of {parts[0]} is not 32 bytes long')
        id = hashlib.sha256(parts[0].encode() + b'\n' + material).digest()[:4]
        refuse_if(id.hex() != parts[1], f'{where}: the id of the key of {parts[0]} is {id.hex()}, not {parts[1]}')
        return Key(parts[0], id, type, material[1:])

    def signed(self, text: str, signature: bytes) -> bool:
        """signed-note, Ed25519 signatures; tlog-cosignature, Format and Ed25519 signed message."""
        message = text.encode()
        if self.type == WITNESS:
            time, signature = int.from_bytes(signature[:8], 'big'), signature[8:]
            if time > LATEST:
                return False
            message = b'cosignature/v1\ntime %d\n' % time + message
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return len(signature) == 64


@dataclass
class Policy:
    logs: list[Key] = field(default_factory=list)
    witnesses: dict[bytes, Key] = field(default_factory=dict)
    groups: dict[bytes, tuple[int, list[bytes]]] = field(default_factory=dict)  # Members before groups.
    members: set[bytes] = field(default_factory=set)
    quorum: bytes | None = None

    @staticmethod
    def parse(file: bytes) -> Policy:
        """tlog-policy, Policy file syntax and structure."""
        strange = re.search(rb'[^\t\n\x20-\x7e\x80-\xff]', file)
        refuse_if(strange is not None, 'the policy has a control character in it')
        refuse_if(not file.endswith(b'\n'), 'the last line of the policy has no end')
        policy = Policy()
        for number, line in enumerate(file[:-1].split(b'\n'), 1):
            items = re.findall(rb'[^ \t]+', line)
            if items and not items[0].startswith(b'#'):
                policy.add(items, f'line {number} of the policy')
        refuse_if(policy.quorum is None, 'the policy has no quorum')
        return policy

    def add(self, items: list[bytes], where: str) -> None:
        match items:
            case [b'log', vkey] | [b'log', vkey, _]:
                self.logs.append(self.new_key(Key.parse(vkey, LOG, where), self.logs, where))
            case [b'witness', name, vkey] | [b'witness', name, vkey, _]:
                key = self.new_key(Key.parse(vkey, WITNESS, where), self.witnesses.values(), where)
                self.witnesses[self.new_name(name, where)] = key
            case [b'group', name, threshold, *members] if members:
                for member in members:
                    self.known_name(member, where)
                    refuse_if(member in self.members, f'{where} lists {show(member)}, which is a member already')
                    self.members.add(member)
                word = {b'any': b'1', b'all': b'%d' % len(members)}.get(threshold, threshold)
                count = from_decimal(word.decode('latin-1'), f'{where}: the threshold')
                refuse_if(not 1 <= count <= len(members), f'{where} asks for {count} of {len(members)} members')
                self.groups[self.new_name(name, where)] = (count, members)
            case [b'quorum', name]:
                refuse_if(self.quorum is not None, f'{where} is a second quorum')
                if name != b'none':
                    self.known_name(name, where)
                self.quorum = name
            case _:
                raise Wrong(f'{where} is not a log, a witness, a group or a quorum: {show(b" ".join(items))}')

    def new_key(self, key: Key, alike: Iterable[Key], where: str) -> Key:
        refuse_if(any(key.public == other.public for other in alike), f'{where} has a key that was given before')
        if any((key.name, key.id) == (other.name, other.id) for other in [*self.logs, *self.witnesses.values()]):
            raise Wrong(f'{where} has a key with the name and the id of another')
        return key

    def new_name(self, name: bytes, where: str) -> bytes:
        taken = name == b'none' or name in self.witnesses or name in self.groups
        refuse_if(taken, f'{where} gives the name {show(name)}, which is taken')
        return name

    def known_name(self, name: bytes, where: str) -> None:
        unknown = name not in self.witnesses and name not in self.groups
        refuse_if(unknown, f'{where} names {show(name)}, which no line before it defines')

    def signers(self, checkpoint: Checkpoint) -> list[Key]:
        """Whose signatures hold; one by a known key that does not is the end: signed-note, Signatures."""
        keys = {(key.name, key.id): key for key in [*self.logs, *self.witnesses.values()]}
        signers = []
        for name, id, signature in checkpoint.signatures:
            if key := keys.get((name, id)):
                if not key.signed(checkpoint.text, signature):
                    raise Wrong(f'the signature of {name} under {checkpoint.what} does not hold')
                signers.append(key)
        return signers

    def check_signatures(self, checkpoint: Checkpoint) -> None:
        """A log's key is named as its origin: tlog-policy, Defining a log."""
        if not any(key.type == LOG and key.name == checkpoint.origin for key in self.signers(checkpoint)):
            raise Wrong(f'{checkpoint.what} is of {checkpoint.origin}, and no log of that name in the policy signed it')

    def check_quorum(self, checkpoint: Checkpoint) -> None:
        """tlog-policy, Defining the quorum and Defining a witness group."""
        signers = self.signers(checkpoint)
        seen = {b'none'} | {name for name, key in self.witnesses.items() if key in signers}
        for name, (count, members) in self.groups.items():
            if sum(member in seen for member in members) >= count:
                seen.add(name)
        if self.quorum not in seen:
            raise Wrong(f'{checkpoint.what} lacks the quorum {show(self.quorum or b"")} of cosignatures')


# Texts, strictly.


def read(path: Path) -> bytes:
    content = path.read_bytes()
    refuse_if(len(content) > MOST_BYTES, f'{path} is longer than {MOST_BYTES} bytes')
    return content


def as_text(content: bytes, what: str) -> str:
    """signed-note, Format: UTF-8 without control characters other than newline."""
    try:
        text = content.decode('utf-8')
    except UnicodeDecodeError:
        raise Wrong(f'{what} is not UTF-8') from None
    refuse_if(re.search('[\x00-\x09\x0b-\x1f]', text) is not None, f'{what} has a control character in it')
    return text


def from_base64(text: str, what: str, length: int | None = None) -> bytes:
    """RFC 4648, section 4, with padding, and in the one spelling that encoding gives."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = b''
    refuse_if(base64.b64encode(content).decode() != text, f'{what} is not canonical base64')
    refuse_if(length is not None and len(content) != length, f'{what} is {len(content)} bytes long, not {length}')
    return content


def from_decimal(text: str, what: str) -> int:
    """ASCII digits without leading zeroes: tlog-checkpoint, Note text."""
    if not re.fullmatch('0|[1-9][0-9]{0,19}', text) or int(text) > LARGEST:
        raise Wrong(f'{what} is not a decimal number of 64 bits without leading zeroes: {text[:40]!r}')
    return int(text)


def is_key_name(name: str) -> bool:
    """signed-note, Format."""
    return name != '' and '+' not in name and not any(character.isspace() for character in name)


def show(octets: bytes) -> str:
    return octets.decode('utf-8', 'backslashreplace')


if __name__ == '__main__':
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding='utf-8', errors='backslashreplace')  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
