"""Checks this evidence bundle. Python's standard library is all it needs, and no network.

    python3 -I -S verify.py [TRUST-POLICY]

TRUST-POLICY is the trust policy as you have it from elsewhere; without it the bundle's own `trust.policy` is used,
which proves only that the bundle agrees with itself. One line for each check: `ok` or `WRONG`, then the file and
what of it. Ends with 0 if everything holds, with 1 if anything does not, with 2 if it was called wrongly.

Formats: RFC 6962 (tree), RFC 8032 (Ed25519), C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles,
tlog-policy, tlog-proof.
"""

import base64
import datetime
import hashlib
import json
import re
import sys
from pathlib import Path

WIDTH = 256  # Hashes in a full tile, entries in a full bundle.
HASH = 32
LOG, WITNESS = 0x01, 0x04  # Types of keys.
SUMS = 'SHA256SUMS'


class Wrong(Exception):
    """Something that does not hold: the file, and what of it."""


def need(holds, file, what):
    if not holds:
        raise Wrong(f'{file}: {what}')


def main(arguments):
    if len(arguments) > 1 or any(argument.startswith('-') for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(__file__).resolve().parent
    trust = Path(arguments[0]) if arguments else folder / 'trust.policy'
    checks = Checks()
    checks.run(lambda: check_sums(folder, checks))
    bundle = checks.run(lambda: Bundle(folder, trust))
    if bundle:
        for log in bundle.logs:
            checks.run(lambda log=log: log.check_head(bundle.trust))
            checks.run(lambda log=log: log.check_tree())
            if log.gone:
                checks.run(lambda log=log: log.check_gone())
        checks.run(bundle.check_span)
        checks.run(bundle.check_heads)
        checks.run(bundle.check_populations)
        for name in ('start', 'end'):
            checks.run(lambda name=name: bundle.check_policy(name))
        checks.run(bundle.check_proofs)
    if not arguments:
        print('note: trust.policy is the bundle\'s own: compare it with one that you have from elsewhere')
    print(f'{checks.passed} checks hold' + (f', {checks.failed} do NOT' if checks.failed else ': the bundle is whole'))
    return 1 if checks.failed else 0


class Checks:
    """Runs one check after the other; what fails is told, and does not keep the others from being run."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, check):
        try:
            done = check()
        except Wrong as wrong:
            return self.wrong(str(wrong))
        except OSError as error:
            return self.wrong(f'{error.filename}: {error.strerror}')
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            return self.wrong(f'manifest.json or a file that it names: not of this format ({error!r})')
        self.passed += 1
        if isinstance(done, str):
            print('ok   ', done)
            return None
        return done

    def wrong(self, what):
        self.failed += 1
        print('WRONG', what)


# The files, and their sums.


def check_sums(folder, checks):
    """Every file but the sums themselves is listed once, and has the sum that is listed."""
    listed = {}
    for number, line in enumerate(read(folder / SUMS).decode('utf-8', 'replace').split('\n')[:-1], 1):
        found = re.fullmatch(r'([0-9a-f]{64})  (\S(?:.*\S)?)', line)
        need(found and found[2] not in listed, SUMS, f'line {number} is not a sum and the name of one file')
        listed[found[2]] = found[1]
    need(read(folder / SUMS).endswith(b'\n'), SUMS, 'its last line has no end')
    need(list(listed) == sorted(listed), SUMS, 'its lines are not in order')
    there = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_symlink() or not path.is_dir()}
    wrong = [f'{name}: {SUMS} lists it and it is not there' for name in sorted(listed.keys() - there)]
    wrong += [f'{name}: {SUMS} does not list it' for name in sorted(there - listed.keys() - {SUMS})]
    for name in sorted(listed.keys() & there):
        if (folder / name).is_symlink():
            wrong.append(f'{name}: it is a link, not a file')
        elif sum_of(folder / name) != listed[name]:
            wrong.append(f'{name}: it does not have the sum that {SUMS} lists')
    for what in wrong[:-1]:
        checks.wrong(what)
    if wrong:
        raise Wrong(wrong[-1])
    return f'{SUMS}: {len(listed)} files, each with its sum, none missing, none besides'


def sum_of(path):
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def parse(text, file):
    """JSON of which no object has a name twice: programs differ in which of the two they take."""

    def once(pairs):
        found = dict(pairs)
        need(len(found) == len(pairs), file, 'an object in it has a name twice')
        return found

    return json.loads(text, object_pairs_hook=once)


def has_exactly(value, names, file, what):
    need(isinstance(value, dict) and set(value) == set(names.split()), file, f'{what} has not just these members: {names}')
    return value


def is_count(value):
    return type(value) is int and value >= 0


class Bundle:
    def __init__(self, folder, trust):
        self.folder = folder
        self.trust = Trust(read(trust), str(trust.name))
        self.manifest = parse(read(folder / 'manifest.json'), 'manifest.json')
        has_exactly(self.manifest, 'format from to nothing_after logs populations proofs unproved', 'manifest.json', 'it')
        need(self.manifest['format'] == 'portcullis evidence bundle v1', 'manifest.json', 'it is of another format')
        need(is_count(self.manifest['unproved']), 'manifest.json', 'it does not say how many entries have no proof')
        self.since, self.until = self.manifest['from'], self.manifest['to']
        need(is_moment(self.since) and is_moment(self.until), 'manifest.json', 'its period is not two moments')
        names = [told['log'] for told in self.manifest['logs']]
        for name in names:
            plain = re.fullmatch(r'fleet|tenants/[a-z0-9][a-z0-9._-]*', name)
            need(plain, 'manifest.json', f'{name!r} is no log')
        need(len(set(names)) == len(names), 'manifest.json', 'it has a log twice')
        need('fleet' in names or len(names) == 1, 'manifest.json', 'it has neither the log of the fleet nor that of one tenant alone')
        there = {path.parent.relative_to(folder / 'log').as_posix() for path in (folder / 'log').rglob('checkpoint')}
        need(there == set(names), 'manifest.json', 'its logs are not those in log/')
        self.logs = [Log(folder, told) for told in self.manifest['logs']]

    def inside(self, event):
        return self.since <= event['at'] < self.until

    def check_span(self):
        """Until when the logs say anything: what happened later is in no copy of this age."""
        heads = [log for log in self.logs if not log.tenant] or self.logs
        told = [min(log.told['cosigned'].values(), default=None) for log in heads]
        told = None if None in told else min(told, default=None)
        need(self.manifest['nothing_after'] == told, 'manifest.json', f'the logs say nothing after {told}, and it has another moment')
        found = [min(self.trust.check(log.checkpoint).values(), default=None) for log in heads]
        found = None if None in found else min(found, default=None)
        if found is None:
            print('note: nobody cosigned the logs: nothing here shows until when they say anything')
        elif found < self.until:
            print(f'note: THE PERIOD IS NOT WHOLE: the logs say nothing after {found}, and it ends at {self.until}')
        return f'manifest.json: entries from {self.since} to {self.until}, nothing after {found}'

    def check_heads(self):
        """The fleet's log says how far the tenants' logs were: none of these is missing, and none is of before."""
        sizes, count = {log.tenant: log.size for log in self.logs}, 0
        for log in self.logs:
            for index, line in log.every_entry() if log.tenant is None else ():
                if b'"log.head"' not in line or index < log.kept_from:
                    continue
                event = parse_event(line, f'{log.path}: entry {index}')
                if event['kind'] == 'log.head' and self.inside(event):
                    tenant, size = event['tenant'], event['size']
                    has = sizes.get(tenant)
                    need(has is not None and has >= size, 'manifest.json', f'entry {index} of fleet says that the log of {tenant} has {size} entries: it has {has}')
                    count += 1
        return f'manifest.json: no log is shorter than any of {count} heads in the period says'

    def check_populations(self):
        """Repeats every query over all entries of the period, and holds each population to what comes of it."""
        told = has_exactly(self.manifest['populations'], ' '.join(POPULATIONS), 'manifest.json', 'its "populations"')
        files = sorted(path.name for path in (self.folder / 'populations').iterdir())
        wanted = sorted(name + end for name in POPULATIONS for end in ('.json', '.csv'))
        need(files == wanted, 'manifest.json', 'its populations are not the files in populations/')
        populations = [Population(self.folder, name) for name in POPULATIONS]
        entries = 0
        for log in self.logs:
            for index, line in log.every_entry():
                if index < log.kept_from:
                    continue
                event = parse_event(line, f'{log.path}: entry {index}')
                span = log.first is not None and log.first <= index <= log.last
                if not self.inside(event):
                    need(index not in (log.first, log.last), 'manifest.json', f'entry {index} of {log.name} is not of the period')
                    continue
                need(span, 'manifest.json', f'entry {index} of {log.name} is of the period, and beyond its ends')
                entries += 1
                taken = [population.takes(event) for population in populations]
                for population, events in zip(populations, taken):
                    if population.name == OTHER and not any(taken):
                        events = 1
                    if events:
                        population.add(log.name, index, event, line, events)
        for population in populations:
            population.end(told[population.name])
        return f'populations: {entries} entries in the period, each in one at least, and each of {len(told)} queries gives what its files list'

    def check_policy(self, name):
        """The documents are those of the last changes before that moment which are in the bundle."""
        file = f'policy/{name}.json'
        policy = has_exactly(parse(read(self.folder / file), file), 'before tenants', file, 'it')
        moment = self.since if name == 'start' else self.until
        need(policy['before'] == moment, file, 'it is of another moment than manifest.json says')
        tenants = {log.tenant: log for log in self.logs if log.tenant}
        need(set(policy['tenants']) == set(tenants), file, 'its tenants are not those of manifest.json')
        for tenant, told in policy['tenants'].items():
            log, last = tenants[tenant], None
            for index, line in log.every_entry():
                if b'"policy.applied"' in line:
                    event = parse_event(line, f'{log.path}: entry {index}')
                    if event['kind'] == 'policy.applied' and event['at'] < moment:
                        last = (index, event)
            if told is None:
                need(last is None, file, f'it has nothing of {tenant}, and entry {last and last[0]} of its log is a change')
                continue
            has_exactly(told, 'entry parts document', file, f'what it has of {tenant}')
            at, parts = told['entry'], told['parts']
            need(is_count(at) and is_count(parts), file, f'what it has of {tenant} is of no entry')
            need(last is not None and last[0] == at, file, f'entry {at} is not the last change of {tenant} before then')
            document = last[1].get('document')
            if parts:
                need(document.get('parts') == parts, file, f'entry {at} of {tenant} has not {parts} parts')
                lines = log.entries(at - parts, at - 1)
                text = ''.join(parse_event(line, log.path)['text'] for _, line in lines).encode()
                same = hashlib.sha256(text).hexdigest() == document.get('sha256')
                need(same, file, f'the parts before entry {at} of {tenant} are not the document of that change')
                document = parse(text, file)
            need(spelled(told['document']) == spelled(document), file, f'the document of {tenant} is not that of entry {at}')
        return f'{file}: the documents of {len(tenants)} tenants as the logs have them'

    def check_proofs(self):
        folder, count = self.folder / 'proofs', 0
        logs = {log.name.replace('/', '-'): log for log in self.logs}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            name, _, index = path.name.removesuffix('.tlog-proof').rpartition('-')
            file = f'proofs/{path.name}'
            need(name in logs and index.isdecimal(), file, 'it is named after no entry of a log')
            check_proof(read(path), file, logs[name], int(index), self.trust)
            count += 1
        need(count == self.manifest['proofs'], 'manifest.json', f'it says {self.manifest["proofs"]} proofs: there are {count}')
        return f'proofs: {count}, each leads from its entry to the root of its log'


# The populations, and which events each takes: as the program has them that makes bundles.

POPULATIONS = {
    "grants": {"title": "Access that staff was granted", "note": "This version of the gateway makes no such events: the count is 0, and no proof that nothing happened elsewhere.", "kinds": [], "only": "all"},
    "staff-sessions": {"title": "Sessions of staff", "note": "This version of the gateway makes no such events: the count is 0, and no proof that nothing happened elsewhere.", "kinds": [], "only": "all"},
    "reviews": {"title": "Changes that waited for a second person, and what became of them", "note": "", "kinds": ["change.approved", "change.rejected", "change.waiting"], "only": "all"},
    "policy-changes": {"title": "Changes of policy, and what was refused", "note": "", "kinds": ["policy.applied", "policy.rejected", "policy.unconfirmed"], "only": "all"},
    "allow-list-changes": {"title": "Changes of who can reach an endpoint", "note": "Those of the policy changes that opened, shut or retimed a door to an endpoint, in the log of its tenant.", "kinds": ["policy.applied"], "only": "reach-changed"},
    "operators": {"title": "Operators, their roles and keys, and what needs two people", "note": "", "kinds": ["guardrails.set", "operator.added", "operator.bound", "operator.removed"], "only": "all"},
    "retention": {"title": "For how long evidence is kept, what is held, and what was let go of", "note": "", "kinds": ["keeping.set", "log.pruned", "openings.erased"], "only": "all"},
    "fleet-membership": {"title": "Nodes that were invited, admitted and removed", "note": "", "kinds": ["fleet.admitted", "fleet.founded", "fleet.invited", "fleet.removed", "fleet.reported", "fleet.uninvited"], "only": "all"},
    "denied-attempts": {"title": "What was refused", "note": "Attempts of customers' clients are counted by batches, whose lines are with the node that saw them; an entry has their root.", "kinds": ["admin.refused", "authentication.failed", "cancel.denied", "connection.denied", "fleet.denied", "limit.shed", "protocol.violation"], "only": "all"},
    "connections": {"title": "Connections of customers' clients", "note": "As for denied attempts: counted by batches.", "kinds": ["backend.ended", "cancel.forwarded", "connection.closed", "connection.lapsed", "connection.permitted"], "only": "all"},
    "break-glass": {"title": "Break-glass uses", "note": "Uses of the recovery key, which needs no majority. Break-glass access of staff does not exist in this version.", "kinds": ["fleet.epoch"], "only": "all"},
    "evidence-reads": {"title": "Who read evidence", "note": "", "kinds": ["evidence.read"], "only": "all"},
    "certificates": {"title": "Certificates that were issued, shown, missed, refused and revoked, and exchanges of authorities", "note": "", "kinds": ["authority.changed", "certificate.issued", "certificate.overdue", "certificate.refused", "certificate.renewed", "certificate.restored", "certificate.revoked"], "only": "all"},
    "gaps": {"title": "Gaps in the evidence", "note": "What the logs themselves say is missing from them.", "kinds": ["ledger.torn", "log.gap"], "only": "all"},
    "differences": {"title": "Nodes that differed, were overtaken, or had a wrong clock; copies and witnesses that have another log", "note": "", "kinds": ["fleet.diverged", "fleet.overtaken", "fleet.reinstalled", "index.contradicted", "log.contradicted", "objects.contradicted", "time.skew"], "only": "all"},
    "operation": {"title": "Nodes that started, stopped and slept; databases that failed", "note": "", "kinds": ["node.started", "node.stopped", "node.woke", "upstream.failed"], "only": "all"},
    "log-heads": {"title": "Heads of tenants' logs, and parts of large documents", "note": "", "kinds": ["log.head", "policy.document"], "only": "all"},
    "other": {"title": "Everything else", "note": "What no other takes; also an entry of a batch that counts nothing of what the others take.", "kinds": [], "only": "all"}
}
OTHER = 'other'  # What no other takes.
COLUMNS = ['log', 'index', 'at', 'kind', 'node', 'tenant', 'revision', 'reference', 'by', 'entry']


class Population:
    """The two files of one, which have exactly the bytes that follow from the entries and from the table above."""

    def __init__(self, folder, name):
        self.name, self.told = name, POPULATIONS[name]
        self.json, self.csv = Bytes(folder, f'populations/{name}.json'), Bytes(folder, f'populations/{name}.csv')
        self.count = self.events = 0
        named = [kind for told in POPULATIONS.values() for kind in told['kinds']]
        query = {'not_kinds': named if name == OTHER else [], 'kinds': self.told['kinds']}
        query |= {'batches_that_count': self.batched(), 'only': self.told['only']}
        head = {'population': name, 'title': self.told['title'], 'note': self.told['note'], 'query': query}
        text = ',\n'.join(f'{spelled(member)}:{spelled(value)}' for member, value in head.items())
        self.json.need(f'{{{text},\n"entries":[', 'it does not begin with what this population is, and its query')
        self.csv.need(','.join(COLUMNS) + '\r\n', f'its first line is not {",".join(COLUMNS)}')

    def batched(self):
        """The kinds that it counts in batches."""
        return self.told['kinds'] if self.told['only'] == 'all' else []

    def takes(self, event):
        """How many events the query takes of this entry."""
        kind = event['kind']
        if kind == 'connections.batch':
            return sum(event['kinds'].get(one, 0) for one in self.batched())
        return int(kind in self.told['kinds'] and (self.told['only'] == 'all' or reach_changed(event)))

    def add(self, log, index, event, line, events):
        here = f'it does not list entry {index} of {log} where it belongs, or not as the log has it'
        between = ',\n' if self.count else '\n'
        self.json.need(f'{between}{{"log":{spelled(log)},"index":{index},"entry":{line.decode()}}}', here)
        cells = {'log': log, 'index': str(index), 'entry': escaped(line.decode())}
        for column in ('at', 'kind', 'node', 'tenant', 'revision', 'reference', 'by'):
            value = event.get(column, '')
            if isinstance(value, dict) and 'commitment' in value:
                value = 'commitment:' + value['commitment'][:12]
            cells[column] = value if isinstance(value, str) else spelled(value)
        self.csv.need(','.join(cell(cells[column]) for column in COLUMNS) + '\r\n', here)
        self.count += 1
        self.events += events

    def end(self, told):
        more = f'it lists more than its query gives, which is {self.count} entries and {self.events} events'
        self.json.need(f'\n],\n"count":{self.count},\n"events":{self.events}}}\n', more)
        self.json.end(more)
        self.csv.end(more)
        has_exactly(told, 'count events', 'manifest.json', self.name)
        counts = (told['count'], told['events'])
        need(counts == (self.count, self.events), 'manifest.json', f'{self.name}: it counts {counts}, the log {self.count, self.events}')
        print(f'ok    {self.json.name}: {self.count} entries, {self.events} events')


class Bytes:
    """A file that is read along with what must stand in it."""

    def __init__(self, folder, name):
        self.name, self.file = name, open(folder / name, 'rb')

    def need(self, wanted, what):
        wanted = wanted.encode()
        need(self.file.read(len(wanted)) == wanted, self.name, what)

    def end(self, what):
        need(not self.file.read(1), self.name, what)


def spelled(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(',', ':'))


def reach_changed(event):
    endpoints = event.get('endpoints')
    if isinstance(endpoints, list):
        return any(one.get(name) for one in endpoints for name in ('opened', 'shut', 'retimed'))
    return isinstance(endpoints, dict)


def escaped(line):
    """An entry without what some programs take for the end of a cell: both stand in texts alone, where JSON has another spelling."""
    return line.replace(';', '\\u003b').replace('\t', '\\u0009')


def cell(text):
    """As RFC 4180 quotes it; what a program could take for a formula, or for the cell after this one, has an apostrophe before it."""
    formula = text.startswith(('=', '+', '-', '@', '\t', '\r'))
    text = re.sub('[;\t]', r"\g<0>'", "'" + text if formula else text)
    return '"' + text.replace('"', '""') + '"' if re.search('[,;\t"\n\r]', text) else text


def parse_event(line, where):
    try:
        event = parse(line, where)
        if is_moment(event['at']) and isinstance(event['kind'], str):
            return event
    except (ValueError, KeyError, TypeError):
        pass
    raise Wrong(f'{where}: it is no event')


def is_moment(text):
    return re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', text, re.ASCII) is not None


# A log: tlog-tiles.


class Log:
    def __init__(self, folder, told):
        has_exactly(told, 'log origin size root cosigned gone first last bundles', 'manifest.json', 'a log of it')
        self.name, self.told = told['log'], told
        self.path = f'log/{self.name}'
        self.folder = folder / 'log' / self.name
        self.tenant = self.name.partition('tenants/')[2] or None
        self.checkpoint = Checkpoint(read(self.folder / 'checkpoint'), f'{self.path}/checkpoint')
        self.size = self.checkpoint.size
        self.first, self.last = told['first'], told['last']
        self.bundles, self.gone = told['bundles'], told['gone']
        numbers = [*self.bundles, *(end for end in (self.first, self.last) if end is not None)]
        need(all(map(is_count, numbers)), 'manifest.json', f'{self.name}: its entries are no numbers')
        need(self.bundles == sorted(set(self.bundles)), 'manifest.json', f'{self.name}: its bundles are not in order')
        self.kept_from = 0
        if self.gone is not None:
            has_exactly(self.gone, 'entries kept_from declared_by', 'manifest.json', f'"gone" of {self.name}')
            need(all(map(is_count, self.gone.values())), 'manifest.json', f'"gone" of {self.name}: not numbers')
            self.kept_from = self.gone['kept_from']
        spans = (self.first is None) == (self.last is None)
        need(spans, 'manifest.json', f'{self.name} has one end of a period')
        if self.first is not None:
            need(0 <= self.first <= self.last < self.size, 'manifest.json', f'{self.name}: its entries are not in order')
            whole = set(range(self.first // WIDTH, self.last // WIDTH + 1)) <= set(self.bundles)
            need(whole, 'manifest.json', f'{self.name}: entries of its period are not in the bundle')
            need(self.first >= self.kept_from, 'manifest.json', f'{self.name}: its period begins before what was let go of ends')

    def check_head(self, trust):
        told, head = self.told, self.checkpoint
        same = (told['origin'], told['size'], told['root']) == (head.origin, head.size, base64.b64encode(head.root).decode())
        need(same, 'manifest.json', f'what it says of {self.name} is not what {head.what} says')
        own = re.fullmatch(r'portcullis/[^/]+/tenants/([^/]+)', head.origin)
        need((own[1] if own else None) == self.tenant, head.what, f'it is of another log: {head.origin}')
        cosigned = trust.check(head)
        for name, at in told['cosigned'].items():
            need(cosigned.get(name) == at, 'manifest.json', f'{name} did not cosign {self.name} at {at}')
        names = ', '.join(f'{name} at {at}' for name, at in sorted(told['cosigned'].items())) or 'nobody'
        return f'{head.what}: {head.origin}, {head.size} entries, signed; cosigned by {names}'

    def check_tree(self):
        """All hashes that are here lead to the root, and each bundle of entries has the hashes that lead there."""
        known = {tile_path(level, index, self.size) for level, index in self.tiles()}
        there = {path.relative_to(self.folder).as_posix() for path in (self.folder / 'tile').rglob('*') if not path.is_dir()}
        for name in sorted(known ^ there):
            raise Wrong(f'{self.path}/{name}: ' + ('it is missing' if name in known else 'it does not belong here'))
        for number in self.bundles:
            hashes = self.hashes(0, number)
            for place, entry in enumerate(self.bundle(number)):
                index = number * WIDTH + place
                file = f'{self.path}/{tile_path(-1, number, self.size)}'
                need(leaf_hash(entry) == hashes[place], file, f'entry {index} is not the one that was signed')
        for level, index in self.tiles():
            if level >= 0 and index < self.size >> (8 * (level + 1)):
                above, place = self.hashes(level + 1, index // WIDTH), index % WIDTH
                file = f'{self.path}/{tile_path(level, index, self.size)}'
                need(tree_hash(self.hashes(level, index)) == above[place], file, 'a hash in it is not the one that was signed')
        edge, level = [], 0
        while self.size >> (8 * level):
            nodes = self.size >> (8 * level)
            here = self.hashes(level, nodes // WIDTH) if nodes % WIDTH else []
            if here + edge:
                edge = [tree_hash(here + edge)]
            level += 1
        root = edge[0] if edge else hashlib.sha256().digest()
        need(root == self.checkpoint.root, f'{self.path}/tile', 'its hashes do not lead to the root of the checkpoint')
        entries = sum(min(WIDTH, self.size - number * WIDTH) for number in self.bundles)
        return f'{self.path}/tile: {entries} entries lead to the root that was signed'

    def check_gone(self):
        """What is not looked for was let go of: an entry of the log itself says so."""
        by, entries, what = self.gone['declared_by'], self.gone['entries'], f'"gone" of {self.name}'
        need(by // WIDTH in self.bundles and by < self.size, 'manifest.json', f'{what}: entry {by} is not in the bundle')
        event = parse_event(dict(self.entries(by, by))[by], f'{self.path}: entry {by}')
        says = event['kind'] == 'log.pruned' and is_count(event.get('kept_from')) and event['kept_from'] == self.kept_from
        fits = self.kept_from <= by and self.kept_from % WIDTH == 0 and 0 < entries <= self.kept_from
        need(says and fits, 'manifest.json', f'{what}: entry {by} does not say that what came before {self.kept_from} may be gone')
        return f'{self.path}: {entries} entries before {self.kept_from} were let go of, as entry {by} says'

    def tiles(self):
        """The tiles that a bundle has of this log, by level and index; -1: of entries."""
        for number in self.bundles:
            yield -1, number
        edge = {self.size // WIDTH} if self.size % WIDTH else set()
        yield from ((0, number) for number in sorted(edge.union(self.bundles)))
        level = 1
        while self.size >> (8 * level):
            nodes = self.size >> (8 * level)
            yield from ((level, index) for index in range(-(-nodes // WIDTH)))
            level += 1

    def hashes(self, level, index):
        name = tile_path(level, index, self.size)
        content = read(self.folder / name)
        width = tile_width(level, index, self.size)
        need(len(content) == width * HASH, f'{self.path}/{name}', f'it is not {width} hashes')
        return [content[at : at + HASH] for at in range(0, len(content), HASH)]

    def bundle(self, number):
        name = tile_path(-1, number, self.size)
        content, entries, at = read(self.folder / name), [], 0
        while at < len(content):
            start = at + 2
            at = start + int.from_bytes(content[at:start], 'big')
            need(start <= at <= len(content), f'{self.path}/{name}', f'entry {number * WIDTH + len(entries)} is cut off')
            entries.append(content[start:at])
        width = tile_width(-1, number, self.size)
        need(len(entries) == width, f'{self.path}/{name}', f'it has {len(entries)} entries, not {width}')
        return entries

    def entries(self, first, last):
        """Entries by index, in order, one bundle in memory at a time."""
        for number in range(first // WIDTH, last // WIDTH + 1):
            for index, entry in enumerate(self.bundle(number), number * WIDTH):
                if first <= index <= last:
                    yield index, entry

    def every_entry(self):
        for number in self.bundles:
            yield from enumerate(self.bundle(number), number * WIDTH)


def tile_width(level, index, size):
    nodes = size >> (8 * max(level, 0))
    return min(WIDTH, nodes - index * WIDTH)


def tile_path(level, index, size):
    width = tile_width(level, index, size)
    need(width > 0, 'manifest.json', f'a log of {size} entries has no tile {index}')
    number, rest = f'{index % 1000:03}', index // 1000
    while rest:
        number, rest = f'x{rest % 1000:03}/{number}', rest // 1000
    part = f'.p/{width}' if width < WIDTH else ''
    return f'tile/{"entries" if level < 0 else level}/{number}{part}'


# The tree: RFC 6962, section 2.1; proofs: RFC 9162, section 2.1.3.2, and tlog-proof.


def leaf_hash(entry):
    return hashlib.sha256(b'\x00' + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b'\x01' + left + right).digest()


def tree_hash(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def check_proof(content, file, log, index, trust):
    head, blank, note = content.partition(b'\n\n')
    lines = head.decode().split('\n')
    fits = blank and len(lines) >= 3 and lines[0] == 'c2sp.org/tlog-proof@v1' and lines[1].startswith('extra ')
    need(fits and lines[2] == f'index {index}', file, f'it is no proof of entry {index} with that entry in it')
    entry = from_base64(lines[1].removeprefix('extra '), file)
    checkpoint = Checkpoint(note, file)
    need(checkpoint.origin == log.checkpoint.origin, file, f'it is of {checkpoint.origin}')
    trust.check(checkpoint)
    node, last, found = index, checkpoint.size - 1, leaf_hash(entry)
    need(node <= last, file, f'there is no entry {index}')
    for line in lines[3:]:
        other = from_base64(line, file)
        need(last > 0 and len(other) == HASH, file, 'it has hashes that belong to no tree of this size')
        if node & 1 or node == last:
            found = node_hash(other, found)
            while node & 1 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    need(last == 0 and found == checkpoint.root, file, f'it does not lead from entry {index} to the root')
    own = dict(log.entries(index, index)).get(index)
    need(own == entry, file, f'its entry is not entry {index} of {log.name}')


# Checkpoints: signed-note, tlog-checkpoint.


class Checkpoint:
    def __init__(self, content, what):
        self.what = what
        note = content.decode()
        end = note.rfind('\n\n')
        self.text, signed = note[: end + 1], note[end + 2 :]
        need(end > 0 and signed.endswith('\n'), what, 'it is no signed note')
        body = self.text[:-1].split('\n')
        sound = len(body) >= 3 and re.fullmatch('0|[1-9][0-9]{0,18}', body[1], re.ASCII)
        need(sound, what, 'it is not an origin, a size and a root')
        self.origin, self.size, self.root = body[0], int(body[1]), from_base64(body[2], what)
        need(len(self.root) == HASH, what, 'its root is not 32 bytes')
        self.signatures = []
        for line in signed[:-1].split('\n'):
            found = re.fullmatch('\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)', line)
            need(found, what, f'a line among its signatures is none: {line!r}')
            raw = from_base64(found[2], what)
            self.signatures.append((found[1], raw[:4], raw[4:]))


def from_base64(text, file):
    content = base64.b64decode(text, validate=True)
    need(base64.b64encode(content).decode() == text, file, 'a base64 in it is not in its one spelling')
    return content


# Whom to believe: tlog-policy. A log's key counts for the logs beneath its name, too.


class Trust:
    def __init__(self, content, file):
        self.file, self.quorum = file, None
        self.logs, self.witnesses, self.groups, self.seen = [], {}, {}, {}
        for number, line in enumerate(content.decode().split('\n'), 1):
            items = re.split('[ \t]+', line.removesuffix('\r').strip(' \t'))
            if items[0] and not items[0].startswith('#'):
                try:
                    self.add(items)
                except ValueError as error:
                    raise Wrong(f'{file}: line {number}: {error}') from None
        need(self.quorum is not None and self.logs, file, 'it has no log or no quorum')

    def add(self, items):
        match items:
            case ['log', key] | ['log', key, _]:
                self.logs.append(once(parse_key(key, LOG), self.logs))
            case ['witness', name, key] | ['witness', name, key, _]:
                key = once(parse_key(key, WITNESS), self.witnesses.values())
                self.witnesses[self.new(name)] = key
            case ['group', name, threshold, *members]:
                number = re.fullmatch(r'\+?([0-9]+)', threshold, re.ASCII)
                count = {'any': 1, 'all': len(members)}.get(threshold) or int(number[1] if number else 0)
                taken = [member for _, others in self.groups.values() for member in others]
                if len(set(members + taken)) < len(members + taken):
                    raise ValueError('whoever is in a group twice, or in two, would count twice')
                if not 1 <= count <= len(members) or not set(members) <= self.names() - {'none'}:
                    raise ValueError('it is no group')
                self.groups[self.new(name)] = (count, members)
            case ['quorum', name] if self.quorum is None and name in self.names():
                self.quorum = name
            case _:
                raise ValueError('it is not a log, a witness, a group or a quorum')

    def new(self, name):
        if name in self.names():
            raise ValueError(f'the name {name} is there already')
        return name

    def names(self):
        return {'none', *self.witnesses, *self.groups}

    def check(self, checkpoint):
        """Who cosigned, and when, if the log itself signed and enough others did."""
        if (known := self.seen.get((checkpoint.text, *checkpoint.signatures))) is not None:
            return known
        origin, what = checkpoint.origin, checkpoint.what
        keys = [key for name, key in self.logs if origin == name]
        keys = keys or [key for name, key in self.logs if origin.startswith(name + '/')]
        need(keys, what, f'no log key of {self.file} is for {origin}')
        signed, cosigned, names = False, {}, {'none'}
        for name, id, raw in checkpoint.signatures:
            for key in keys:
                if (name, id) == (origin, key_id(origin, LOG, key)):
                    need(ed25519(key, raw, checkpoint.text.encode()), what, f'the signature of {name} does not hold')
                    signed = True
            for own, (key_name, key) in self.witnesses.items():
                if (name, id) == (key_name, key_id(key_name, WITNESS, key)):
                    time = int.from_bytes(raw[:8], 'big')
                    message = b'cosignature/v1\ntime %d\n' % time + checkpoint.text.encode()
                    need(ed25519(key, raw[8:], message), what, f'the cosignature of {name} does not hold')
                    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=min(time, 253402300799))
                    cosigned[own] = cosigned[name] = at.strftime('%Y-%m-%dT%H:%M:%S.000Z')
                    names.add(own)
        need(signed, what, f'the log {origin} did not sign it')
        for name, (count, members) in self.groups.items():
            if sum(member in names for member in members) >= count:
                names.add(name)
        need(self.quorum in names, what, f'fewer cosigned it than {self.file} asks for')
        self.seen[(checkpoint.text, *checkpoint.signatures)] = cosigned
        return cosigned


def once(key, others):
    if any(key[1] == other[1] for other in others):
        raise ValueError('whoever has this key would count twice: it is there already')
    return key


def parse_key(text, type):
    name, id, key = text.split('+', 2)
    key = base64.b64decode(key, validate=True)
    if key[:1] != bytes([type]) or len(key) != 1 + HASH or key_id(name, type, key[1:]).hex() != id:
        raise ValueError(f'{name} has no key of type {type} with this id')
    return name, key[1:]


def key_id(name, type, key):
    return hashlib.sha256(name.encode() + b'\n' + bytes([type]) + key).digest()[:4]


# Ed25519: RFC 8032, sections 5.1.3 and 5.1.7. Public values only, so that time does not matter.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def ed25519(key, signature, message):
    if len(signature) != 64:
        return False
    public, r = point(key), point(signature[:32])
    s = int.from_bytes(signature[32:], 'little')
    if public is None or r is None or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), 'little') % ORDER
    left, right = times(s, BASE), plus(r, times(k, public))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def point(octets):
    y = int.from_bytes(octets, 'little')
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def plus(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return i * j % P, k * m % P, j * k % P, i * m % P


def times(count, a):
    total = (0, 1, 1, 0)
    while count:
        if count & 1:
            total = plus(total, a)
        a, count = plus(a, a), count >> 1
    return total


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, 'little'))

if __name__ == '__main__':
    sys.stdout.reconfigure(encoding='utf-8', errors='backslashreplace')
    sys.exit(main(sys.argv[1:]))
