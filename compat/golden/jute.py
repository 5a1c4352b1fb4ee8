"""ZooKeeper's client protocol, encoded by hand.

Requests are lists of *chunks*, replies are decoded into such lists. A chunk is either `bytes` (compared
literally when a scenario is replayed) or a `Mask` (a value that differs from run to run). One chunk is one
field of the protocol, which is also how the scenario files are spaced.
"""

import struct
from dataclasses import dataclass

PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, SEQUENTIAL_TTL = range(7)
READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31

OPCODES = {
    "create": 1, "delete": 2, "exists": 3, "getData": 4, "setData": 5, "getACL": 6, "setACL": 7,
    "getChildren": 8, "sync": 9, "ping": 11, "getChildren2": 12, "check": 13, "multi": 14, "create2": 15,
    "reconfig": 16, "checkWatches": 17, "removeWatches": 18, "createContainer": 19, "deleteContainer": 20,
    "createTTL": 21, "multiRead": 22, "auth": 100, "setWatches": 101, "sasl": 102, "getEphemerals": 103,
    "getAllChildrenNumber": 104, "setWatches2": 105, "addWatch": 106, "whoAmI": 107, "createSession": -10,
    "closeSession": -11,
}

ERRORS = {
    0: "ok", -2: "RUNTIMEINCONSISTENCY", -5: "MARSHALLINGERROR", -6: "UNIMPLEMENTED", -8: "BADARGUMENTS",
    -101: "NONODE", -102: "NOAUTH", -103: "BADVERSION", -108: "NOCHILDRENFOREPHEMERALS", -110: "NODEEXISTS",
    -111: "NOTEMPTY", -112: "SESSIONEXPIRED", -114: "INVALIDACL", -115: "AUTHFAILED", -121: "NOWATCHER",
    -123: "RECONFIGDISABLED", -125: "QUOTAEXCEEDED",
}

EVENTS = {1: "NodeCreated", 2: "NodeDeleted", 3: "NodeDataChanged", 4: "NodeChildrenChanged"}


@dataclass(frozen=True)
class Mask:
    """A value that is not compared literally; `text` is how the scenario file writes it."""

    kind: str  # sid, pw, time, zxid, set, fill
    text: str
    size: int

    def __str__(self):
        return "{" + self.text + "}"


def sid(name):
    return Mask("sid", f"sid:{name}", 8)


def password(name):
    return Mask("pw", f"pw:{name}", 16)


def zxid(offset):
    return Mask("zxid", f"zxid{offset:+d}", 8)


def fill(byte, count):
    return Mask("fill", f"fill {byte:02x} {count}", count)


def size(chunks):
    return sum(len(c) if isinstance(c, bytes) else c.size for c in chunks)


def text(chunks):
    return " ".join(c.hex() if isinstance(c, bytes) else str(c) for c in chunks if not isinstance(c, bytes) or c)


# --- writing ---------------------------------------------------------------------------------------------


def i32(value):
    return [struct.pack(">i", value)]


def i64(value):
    return [struct.pack(">q", value)]


def boolean(value):
    return [b"\x01" if value else b"\x00"]


def buffer(value):
    """A jute buffer or ustring: `None` is the null form (length -1), distinct from empty."""
    if value is None:
        return i32(-1)
    data = value.encode() if isinstance(value, str) else value
    return i32(len(data)) + [data]


def vector(items):
    """A vector of already encoded elements; `None` is the null vector."""
    if items is None:
        return i32(-1)
    return i32(len(items)) + [chunk for item in items for chunk in item]


def strings(values):
    return vector(None if values is None else [buffer(v) for v in values])


def acl(entries):
    return vector(None if entries is None else [i32(p) + buffer(s) + buffer(i) for p, s, i in entries])


OPEN = [(ALL, "world", "anyone")]


def frame(chunks):
    return i32(size(chunks)) + chunks


def connect_request(last_zxid=0, timeout=30000, session=None, secret=None, read_only=False, protocol=0):
    """`session` and `secret` are chunks; `read_only=None` leaves the flag out (the 44-byte form)."""
    chunks = i32(protocol)
    chunks += [last_zxid] if isinstance(last_zxid, Mask) else i64(last_zxid)
    chunks += i32(timeout)
    chunks += [session] if session is not None else i64(0)
    chunks += i32(16) + [secret if secret is not None else bytes(16)]
    if read_only is not None:
        chunks += boolean(read_only)
    return chunks


def multi_ops(ops):
    """`ops`: (opcode, chunks) pairs, framed with multi headers and the closing header."""
    chunks = []
    for op, body in ops:
        chunks += i32(op) + boolean(False) + i32(-1) + body
    return chunks + i32(-1) + boolean(True) + i32(-1)


# --- reading ---------------------------------------------------------------------------------------------


class Reader:
    """Walks one reply, turning it into chunks. `names` binds what varies to its name in the scenario."""

    def __init__(self, data, names):
        self.data, self.pos, self.names, self.chunks = data, 0, names, []

    def take(self, count):
        piece = self.data[self.pos : self.pos + count]
        if len(piece) != count:
            raise ValueError(f"reply ends at {len(self.data)}, field needs {self.pos + count}: {self.data.hex()}")
        self.pos += count
        return piece

    def literal(self, count):
        piece = self.take(count)
        self.chunks.append(piece)
        return piece

    def int(self):
        return struct.unpack(">i", self.literal(4))[0]

    def string(self):
        length = self.int()
        return None if length < 0 else self.literal(length)

    def zxid(self):
        raw = self.take(8)
        value = struct.unpack(">q", raw)[0]
        self.chunks.append(self.names.zxid(value) if value > 0 else raw)
        return value

    def time(self, of_zxid):
        raw = self.take(8)
        self.chunks.append(self.names.time(of_zxid) if any(raw) else raw)

    def session(self):
        raw = self.take(8)
        self.chunks.append(self.names.session(raw) if any(raw) else raw)

    def stat(self):
        czxid, mzxid = self.zxid(), self.zxid()
        self.time(czxid)
        self.time(mzxid)
        for _ in range(3):
            self.int()
        self.session()
        self.int()
        self.int()
        self.zxid()

    def unordered(self, strings, fixed=0):
        """A vector whose order is not part of the contract; an element is `fixed` bytes and some ustrings."""
        count = self.int()
        if count < 0:
            return
        items = []
        for _ in range(count):
            item = self.take(fixed)
            for _ in range(strings):
                length = self.take(4)
                item += length + self.take(struct.unpack(">i", length)[0])
            items.append(item)
        if count > 1:
            self.chunks.append(Mask("set", "set " + " ".join(sorted(i.hex() for i in items)), sum(map(len, items))))
        else:
            self.chunks.extend(items)

    def names_unordered(self):
        self.unordered(strings=1)

    def acl(self):
        for _ in range(self.int()):
            self.int()
            self.string()
            self.string()

    def acl_unordered(self):
        """What scheme `auth` expands to: the connection's ids are a set."""
        self.unordered(strings=2, fixed=4)

    def multi(self):
        while True:
            op, done, err = self.int(), self.literal(1), self.int()
            if done != b"\x00":
                return
            if op == -1:
                self.int()
            elif op == 1:
                self.string()
            elif op == 15:
                self.string()
                self.stat()
            elif op == 5:
                self.stat()
            elif op == 4:
                self.string()
                self.stat()
            elif op == 8:
                self.names_unordered()
            elif op not in (2, 13):
                raise ValueError(f"unexpected multi result {op} {err}")

    def whoami(self):
        self.unordered(strings=2)

    def body(self, shape):
        for part in shape.split():
            getattr(self, {"names": "names_unordered"}.get(part, part))()


# What follows the reply header when it says "ok".
SHAPES = {
    1: "string", 3: "stat", 4: "string stat", 5: "stat", 6: "acl stat", 7: "stat", 8: "names", 9: "string",
    12: "names stat", 14: "multi", 15: "string stat", 16: "string stat", 19: "string stat", 21: "string stat",
    22: "multi", 103: "names", 104: "int", 106: "int", 107: "whoami",
}
