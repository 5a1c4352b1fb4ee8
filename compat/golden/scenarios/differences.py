"""Where Ostler differs on purpose (docs/compatibility.md).

What Apache ZooKeeper does is recorded on lines marked @zookeeper; what Ostler does is written here by hand
and goes to lines marked @ostler.
"""

import jute
from jute import OPCODES
from session import create_body
from .multi import create, multi
from .registry import scenario


def zookeeper_closes(s, conn, again):
    """Apache ZooKeeper drops the connection; the session is picked up again to end it."""
    s.closed(conn)
    s.reattach(again, conn)
    s.end(again)


@scenario("differs-unknown-opcode")
def unknown(s):
    """Unknown opcodes: Apache ZooKeeper answers UNIMPLEMENTED and hangs up. Ostler keeps the connection."""
    s.session("S")
    offset = 0
    for conn, again, op in (("A", "K", 10), ("B", "L", 0), ("C", "M", 23), ("D", "N", 999), ("E", "O", -1), ("F", "P", -2), ("G", "Q", 13)):
        s.note("check outside a multi" if op == 13 else f"type {op}")
        s.session(conn)
        offset += 1
        body = jute.buffer("/") + jute.i32(-1) if op == 13 else []
        s.call(conn, op, body, expect=-6)
        s.only("zookeeper")
        zookeeper_closes(s, conn, again)
        s.only(None)
        s.ostler_send(conn, "closeSession", xid=2)
        offset += 1
        s.ostler_reply(conn, 2, jute.zxid(offset), 0)
        s.ostler(f"{conn}! closed")
    s.end("S")


@scenario("differs-oversized-frame")
def oversized(s):
    """A frame longer than jute.maxbuffer: Apache ZooKeeper hangs up without a word. Ostler reads its header,
discards the rest, answers BADARGUMENTS in its turn and keeps the connection."""
    s.session("A")
    path = jute.buffer("/g-huge")
    size = 2_000_000
    data = jute.i32(size) + [jute.fill(0x78, size)]
    request = jute.i32(1) + jute.i32(OPCODES["create"]) + path + data + jute.acl(jute.OPEN) + jute.i32(0)
    s.connections["A"].xid = 1
    try:
        s.raw("A", jute.frame(request), "create with 2,000,000 bytes")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it stops reading after the length
    s.only("zookeeper")
    s.closed("A")
    s.reattach("B", "A")
    s.read("B", "exists", "/g-huge", expect=-101)
    s.end("B")
    s.only(None)
    s.ostler_reply("A", 1, jute.zxid(0), -8)
    s.ostler_send("A", "exists", jute.buffer("/g-huge") + jute.boolean(False), xid=2)
    s.ostler_reply("A", 2, jute.zxid(0), -101)
    s.ostler_send("A", "closeSession", xid=3)
    s.ostler_reply("A", 3, jute.zxid(1), 0)
    s.ostler("A! closed")


@scenario("differs-delete-container")
def delete_container(s):
    """deleteContainer is the server's own request: Apache ZooKeeper takes it from anybody, without looking at
ACLs. Ostler does not know the opcode when a client sends it."""
    s.session("A")
    s.create("A", "/g-dc", b"precious", acl=[(1, "world", "anyone")])
    s.only("zookeeper")
    s.call("A", "deleteContainer", jute.buffer("/g-dc"))
    s.read("A", "exists", "/g-dc", expect=-101)
    s.end("A")
    s.only(None)
    s.ostler_send("A", "deleteContainer", jute.buffer("/g-dc"), xid=2)
    s.ostler_reply("A", 2, -1, -6)
    s.ostler_send("A", "delete", jute.buffer("/g-dc") + jute.i32(-1), xid=3)
    s.ostler_reply("A", 3, jute.zxid(2), 0)
    s.ostler_send("A", "closeSession", xid=4)
    s.ostler_reply("A", 4, jute.zxid(3), 0)
    s.ostler("A! closed")


@scenario("differs-create-session")
def create_session(s):
    """createSession is internal too: Apache ZooKeeper takes it as a request and answers with a bare
ConnectResponse. Ostler does not know the opcode when a client sends it."""
    s.session("A")
    s.only("zookeeper")
    s.send("A", "createSession", jute.i32(30000), "timeout 30000")
    s.handshake_reply("A", "A")
    s.ping("A")
    s.end("A")
    s.only(None)
    s.ostler_send("A", "createSession", jute.i32(30000), xid=1)
    s.ostler_reply("A", 1, -1, -6)
    s.ostler_send("A", "closeSession", xid=2)
    s.ostler_reply("A", 2, jute.zxid(1), 0)
    s.ostler("A! closed")


@scenario("differs-ttl-crash", disposable=True)
def ttl_crash(s):
    """createTTL with flags 0 and ttl -1 passes Apache ZooKeeper's checks, breaks it while being applied, and
breaks it again from the log at every start. Ostler answers BADARGUMENTS."""
    s.session("A")
    s.create("A", "/g-crash")
    body = create_body("/g-crash/x", b"", 0, None, -1)
    xid = s.send("A", "createTTL", body, "/g-crash/x flags=0 ttl=-1")
    s.only("zookeeper")
    s.closed("A", "it does not serve any more")
    s.only(None)
    s.ostler_reply("A", xid, jute.zxid(2), -8)
    s.ostler_send("A", "exists", jute.buffer("/g-crash") + jute.boolean(False), xid=3)
    stat = [jute.zxid(1), jute.zxid(1), jute.Mask("time", "time:+1", 8), jute.Mask("time", "time:+1", 8)]
    stat += 3 * jute.i32(0) + jute.i64(0) + 2 * jute.i32(0) + [jute.zxid(1)]
    s.ostler_reply("A", 3, jute.zxid(2), 0, stat)
    s.ostler_send("A", "delete", jute.buffer("/g-crash") + jute.i32(-1), xid=4)
    s.ostler_reply("A", 4, jute.zxid(3), 0)
    s.ostler_send("A", "closeSession", xid=5)
    s.ostler_reply("A", 5, jute.zxid(4), 0)
    s.ostler("A! closed")


@scenario("differs-session-secret")
def secret(s):
    """A wrong password for a session that is connected: Apache ZooKeeper first closes the connection of its
rightful owner, then refuses the stranger. Ostler looks at the password first."""
    s.session("A")
    s.connect("B")
    s.handshake("B", None, session=jute.sid("A"), secret=bytes(16))
    s.closed("B")
    s.only("zookeeper")
    s.closed("A")
    s.reattach("C", "A")
    s.end("C")
    s.only(None)
    s.ostler_send("A", "closeSession", xid=1)
    s.ostler_reply("A", 1, jute.zxid(1), 0)
    s.ostler("A! closed")


@scenario("differs-undecodable-multi")
def undecodable_multi(s):
    """A multi that cannot be decoded uses up a zxid on Apache ZooKeeper, most of the time. On Ostler what cannot
be decoded never reaches the log, so it never has a zxid."""
    s.session("A")
    header = lambda op, done=False, err=-1: jute.i32(op) + jute.boolean(done) + jute.i32(err)
    good = jute.buffer("/g-um") + jute.buffer("") + jute.acl(jute.OPEN) + jute.i32(0)
    get = jute.buffer("/") + jute.boolean(False)
    null_acl = jute.buffer("/g-um") + jute.buffer("") + jute.acl(None) + jute.i32(0)
    unknown_flags = jute.buffer("/g-um") + jute.buffer("") + jute.acl(jute.OPEN) + jute.i32(9)
    ttl_flags = jute.buffer("/g-um") + jute.buffer("") + jute.acl(jute.OPEN) + jute.i32(5)
    end = header(-1, True)
    bodies = (
        ("no body", []), ("no closing header", header(1) + good), ("a read in it", header(1) + good + header(4) + get + end),
        ("an unknown type", header(99) + end), ("a setACL", header(7) + end), ("a null ACL", header(1) + null_acl + end),
        ("flags 9", header(1) + unknown_flags + end), ("ttl flags on a create", header(1) + ttl_flags + end),
        ("a body cut short", header(1) + good[:3]),
    )
    for what, body in bodies:
        s.note(what)
        xid = s.send("A", "multi", body)
        s.only("zookeeper")
        s.reply("A", "multi", xid, expect=-5)
        s.only(None)
        s.ostler_reply("A", xid, jute.zxid(0), -5)
    s.note("a write in a multiRead")
    s.only("zookeeper")
    xid = s.send("A", "multiRead", header(1) + good + end)
    s.reply("A", "multiRead", xid, expect=-5)
    s.read("A", "exists", "/g-um", expect=-101)
    s.end("A")
    s.only(None)
    s.ostler_send("A", "multiRead", header(1) + good + end, xid=xid)
    s.ostler_reply("A", xid, jute.zxid(0), -5)
    s.ostler_send("A", "exists", jute.buffer("/g-um") + jute.boolean(False), xid=xid + 1)
    s.ostler_reply("A", xid + 1, jute.zxid(0), -101)
    s.ostler_send("A", "closeSession", xid=xid + 2)
    s.ostler_reply("A", xid + 2, jute.zxid(1), 0)
    s.ostler("A! closed")
