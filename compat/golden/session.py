"""One scenario being recorded: connections to the server, and the lines written so far."""

import socket
import struct

import jute
from jute import EVENTS, ERRORS, OPCODES, SHAPES, Mask, Reader

READ_TIMEOUT_S = 30


class Names:
    """What the recorded values that vary are called."""

    def __init__(self):
        self.base = None
        self.sessions = {}

    def zxid(self, value):
        if self.base is None:
            self.base = value
        return jute.zxid(value - self.base)

    def time(self, of_zxid):
        if of_zxid == 0:
            return Mask("time", "time:start", 8)
        return Mask("time", f"time:{of_zxid - self.base:+d}", 8)

    def session(self, raw):
        return jute.sid(self.sessions[raw]) if raw in self.sessions else raw


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=READ_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.readonly_flag = True

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(f"server closed the connection after {data.hex()!r}")
            data += piece
        return data

    def frame(self):
        length = struct.unpack(">i", self.exactly(4))[0]
        return self.exactly(length)


class Recorder:
    """Plays requests against a server and writes both directions down."""

    def __init__(self, address):
        self.address = address
        self.names = Names()
        self.values = {}  # (kind, name) -> bytes, for what requests must repeat
        self.connections = {}
        self.lines = []
        self.side = ""

    # --- lines ---

    def note(self, text):
        self.lines += ["", f"# {text}"]

    def write(self, text):
        printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        self.lines.append(self.side + printable)

    def only(self, side):
        """Lines from here on hold for this side only ("zookeeper"); `None` ends that."""
        self.side = f"@{side} " if side else ""

    def ostler(self, text, comment=""):
        """What Ostler answers instead, written by hand because there is nothing to record it from."""
        self.lines.append(f"@ostler {text}" + (f"  # {comment}" if comment else ""))

    def ostler_reply(self, conn, xid, zxid, err, body=(), comment=""):
        header = jute.i32(xid) + [zxid if isinstance(zxid, Mask) else struct.pack(">q", zxid)] + jute.i32(err)
        self.ostler(f"{conn}< {jute.text(jute.frame(header + list(body)))}", comment or ERRORS[err])

    def ostler_send(self, conn, op, body=(), xid=1, comment=""):
        chunks = jute.frame(jute.i32(xid) + jute.i32(OPCODES[op]) + list(body))
        self.ostler(f"{conn}> {jute.text(chunks)}", comment or op)

    # --- connections ---

    def connect(self, conn):
        self.connections[conn] = Connection(self.address)
        self.write(f"connect {conn}")

    def drop(self, conn):
        """The client goes away without a word."""
        self.connections.pop(conn).socket.close()
        self.write(f"close {conn}")

    def closed(self, conn, comment=""):
        """The server ends the connection, and says nothing more."""
        try:
            rest = self.connections[conn].socket.recv(65536)
        except ConnectionResetError:
            rest = b""
        if rest:
            raise AssertionError(f"{conn}: expected the server to close, got {rest.hex()}")
        self.connections.pop(conn).socket.close()
        self.write(f"{conn}! closed" + (f"  # {comment}" if comment else ""))

    # --- frames ---

    def raw(self, conn, chunks, comment=""):
        data = b""
        for chunk in chunks:
            if isinstance(chunk, bytes):
                data += chunk
            elif chunk.kind == "zxid":
                data += struct.pack(">q", self.names.base + int(chunk.text[4:]))
            elif chunk.kind == "fill":
                data += bytes.fromhex(chunk.text.split()[1]) * chunk.size
            else:
                data += self.values[chunk]
        self.write(f"{conn}> {jute.text(chunks)}" + (f"  # {comment}" if comment else ""))
        self.connections[conn].socket.sendall(data)

    def send(self, conn, op, body=(), comment="", xid=None):
        """One request; `op` is a name or a number. Returns the xid used."""
        state = self.connections[conn]
        if xid is None:
            state.xid += 1
            xid = state.xid
        number = OPCODES.get(op, op)
        named = f"{op} {comment}".strip() if isinstance(op, str) else comment or f"type {op}"
        self.raw(conn, jute.frame(jute.i32(xid) + jute.i32(number) + list(body)), named)
        return xid

    def received(self, conn, reader, data, comment):
        if reader.pos != len(data):
            reader.literal(len(data) - reader.pos)
        self.write(f"{conn}< {jute.text(jute.frame(reader.chunks))}" + (f"  # {comment}" if comment else ""))

    def reply(self, conn, op, xid, expect=0, comment="", shape=None):
        data = self.connections[conn].frame()
        reader = Reader(data, self.names)
        got_xid = reader.int()
        reader.zxid()
        err = reader.int()
        number = OPCODES.get(op, op)
        if err == 0 and (shape or number in SHAPES):
            reader.body(shape or SHAPES[number])
        words = ERRORS.get(err, f"error {err}")
        self.received(conn, reader, data, f"{words}, {comment}" if comment else words)
        if got_xid != xid or err != expect:
            raise AssertionError(f"{op}: xid {got_xid} err {err}, expected xid {xid} err {expect}\n" + self.lines[-2])

    def call(self, conn, op, body=(), comment="", expect=0, events=0, xid=None, reply_xid=None, shape=None):
        """Request and reply, with `events` watch events arriving before the reply."""
        xid = self.send(conn, op, body, comment, xid)
        for _ in range(events):
            self.event(conn)
        self.reply(conn, op, xid if reply_xid is None else reply_xid, expect, shape=shape)

    def event(self, conn):
        data = self.connections[conn].frame()
        reader = Reader(data, self.names)
        if reader.int() != -1:
            raise AssertionError(f"{conn}: expected an event, got {data.hex()}")
        reader.zxid()
        reader.int()
        kind = reader.int()
        reader.int()
        path = reader.string()
        self.received(conn, reader, data, f"event {EVENTS[kind]} {path.decode()}")

    # --- common sequences ---

    def handshake(self, conn, name=None, comment="", **fields):
        """Sends a ConnectRequest and reads the answer; a new session's id and password are bound to `name`."""
        request = jute.connect_request(**fields)
        self.raw(conn, jute.frame(request), comment or "connect request")
        self.connections[conn].readonly_flag = fields.get("read_only", False) is not None
        self.handshake_reply(conn, name)

    def handshake_reply(self, conn, name=None):
        data = self.connections[conn].frame()
        reader = Reader(data, self.names)
        reader.int()
        timeout = reader.int()
        session, secret = data[8:16], data[20:36]
        if any(session):
            name = self.names.sessions.setdefault(session, name)
            self.values[jute.sid(name)] = session
            self.values[jute.password(name)] = secret
        reader.session()
        reader.int()
        raw = reader.take(16)
        reader.chunks.append(jute.password(name) if any(raw) else raw)
        if self.connections[conn].readonly_flag:
            reader.literal(1)
        what = f"session {name}, {timeout} ms" if timeout > 0 else "session expired"
        self.received(conn, reader, data, what)
        return timeout

    def session(self, conn, **fields):
        """A new connection with a new session of the same name. The first one also binds the zxid base."""
        self.connect(conn)
        self.handshake(conn, conn, **fields)
        if self.names.base is None:
            self.ping(conn)

    def reattach(self, conn, name, **fields):
        """A new connection for an existing session."""
        self.connect(conn)
        self.handshake(conn, name, session=jute.sid(name), secret=jute.password(name), **fields)

    def ping(self, conn):
        """Also the proof that nothing else is waiting on this connection."""
        self.send(conn, "ping", xid=-2)
        self.reply(conn, "ping", -2)

    def sync(self, conn, path="/"):
        """Like `ping`, and everything committed before it is visible on this connection afterwards."""
        self.call(conn, "sync", jute.buffer(path), path)

    def end(self, *conns):
        for conn in conns:
            self.call(conn, "closeSession")
            self.closed(conn)

    # --- operations in one line ---

    def create(self, conn, path, data=b"", flags=0, acl=None, expect=0, op="create", ttl=None, events=0, comment=""):
        body = create_body(path, data, flags, acl, ttl)
        what = f"{path} flags={flags}" + (f" ttl={ttl}" if ttl is not None else "")
        self.call(conn, op, body, f"{what} {comment}".strip(), expect, events)

    def delete(self, conn, path, version=-1, expect=0, events=0):
        self.call(conn, "delete", jute.buffer(path) + jute.i32(version), f"{path} version={version}", expect, events)

    def remove(self, conn, *paths):
        for path in paths:
            self.delete(conn, path)

    def set(self, conn, path, data, version=-1, expect=0, events=0):
        body = jute.buffer(path) + jute.buffer(data) + jute.i32(version)
        self.call(conn, "setData", body, f"{path} version={version}", expect, events)

    def read(self, conn, op, path, watch=False, expect=0):
        """exists, getData, getChildren or getChildren2."""
        self.call(conn, op, jute.buffer(path) + jute.boolean(watch), f"{path} watch={str(watch).lower()}", expect)

    def set_acl(self, conn, path, entries, version=-1, expect=0):
        self.call(conn, "setACL", jute.buffer(path) + jute.acl(entries) + jute.i32(version), f"{path} {shown(entries)}", expect)

    def get_acl(self, conn, path, expect=0, unordered=False):
        shape = "acl_unordered stat" if unordered else None
        self.call(conn, "getACL", jute.buffer(path), path, expect, shape=shape)

    def add_watch(self, conn, path, mode, expect=0):
        self.call(conn, "addWatch", jute.buffer(path) + jute.i32(mode), f"{path} mode={mode}", expect)

    def auth(self, conn, scheme, credentials):
        self.call(conn, "auth", jute.i32(0) + jute.buffer(scheme) + jute.buffer(credentials), scheme, xid=-4)


def create_body(path, data=b"", flags=0, acl=None, ttl=None):
    body = jute.buffer(path) + jute.buffer(data) + jute.acl(jute.OPEN if acl is None else acl) + jute.i32(flags)
    return body + jute.i64(ttl) if ttl is not None else body


def shown(entries):
    return "null" if entries is None else "[" + " ".join(f"{p}:{s}:{i}" for p, s, i in entries) + "]"
