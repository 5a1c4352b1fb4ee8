"""Bytes no client library sends, where Ostler answers as Apache ZooKeeper does."""

import jute
from .registry import scenario


@scenario("undecodable-bodies")
def bodies(s):
    """Bodies that end too early or hold impossible lengths: MARSHALLINGERROR, and the connection lives."""
    s.session("A")
    s.create("A", "/g-undecodable", b"x")
    path = jute.buffer("/g-undecodable")
    s.note("no body at all")
    for op in ("create", "create2", "createContainer", "createTTL", "delete", "exists", "getData", "setData", "getACL", "setACL",
               "getChildren", "getChildren2", "sync", "checkWatches", "removeWatches", "setWatches", "setWatches2", "addWatch",
               "getEphemerals", "getAllChildrenNumber", "multiRead", "reconfig"):
        s.call("A", op, expect=-5)
    s.note("cut in the middle of a field")
    s.call("A", "getData", path, "without the watch flag", expect=-5)
    s.call("A", "getData", jute.i32(15) + [b"/g-undec"], "path shorter than its length", expect=-5)
    s.call("A", "exists", jute.i32(2**31 - 1) + [b"/g"], "path length 2^31-1", expect=-5)
    s.call("A", "exists", jute.i32(-2) + [b"/g"], "path length -2", expect=-5)
    s.call("A", "exists", jute.i32(-(2**31)) + [b"/g"], "path length -2^31", expect=-5)
    s.call("A", "setData", path + jute.i32(-2) + jute.i32(-1), "data length -2", expect=-5)
    s.call("A", "setData", path + jute.buffer("y"), "without the version", expect=-5)
    s.call("A", "delete", path + [b"\0\0"], "half a version", expect=-5)
    s.call("A", "create", path + jute.buffer("") + jute.i32(2**31 - 1), "2^31-1 ACL entries", expect=-5)
    s.call("A", "create", path + jute.buffer("") + jute.acl(jute.OPEN), "without flags", expect=-5)
    s.call("A", "setWatches", jute.i64(0) + jute.i32(1000), "1000 paths, none sent", expect=-5)
    s.note("vectors with a negative count other than -1 are empty")
    s.call("A", "create", jute.buffer("/g-u2") + jute.buffer("") + jute.i32(-2) + jute.i32(0), "-2 ACL entries", expect=-114)
    s.call("A", "setWatches", jute.i64(0) + jute.i32(-2) + 2 * jute.i32(0), "-2 paths")
    s.note("none of this changed anything")
    s.ping("A")
    s.read("A", "exists", "/g-undecodable")
    s.remove("A", "/g-undecodable")
    s.end("A")


@scenario("undecodable-frames")
def frames(s):
    """Frames without a readable header, and bad first frames: the connection closes without an answer."""
    s.session("S")
    s.note("before the handshake")
    for conn, chunks, what in (
        ("A", jute.i32(-1), "length -1"), ("B", jute.i32(-(2**31)), "length -2^31"), ("C", jute.i32(0), "length 0"),
        ("D", jute.i32(4) + [bytes(4)], "four bytes"), ("E", jute.frame(jute.i32(0) + jute.i64(0) + jute.i32(1)), "no session id"),
        ("F", jute.frame(jute.i32(0) + jute.i64(0) + jute.i32(1) + jute.i64(0) + jute.i32(16) + [bytes(15)]), "15 of 16 password bytes"),
        ("G", jute.frame(jute.i32(0) + jute.i64(0) + jute.i32(1) + jute.i64(0) + jute.i32(-2)), "password length -2"),
    ):
        s.connect(conn)
        s.raw(conn, chunks, what)
        s.closed(conn)
    s.note("after it; the session stays")
    for conn, again, chunks, what in (
        ("H", "N", jute.i32(0), "length 0"), ("I", "O", jute.i32(-1), "length -1"), ("J", "P", jute.i32(7) + [bytes(7)], "seven bytes"),
        ("K", "Q", jute.i32(-(2**31)), "length -2^31"),
    ):
        s.session(conn)
        s.raw(conn, chunks, what)
        s.closed(conn)
        s.reattach(again, conn)
        s.end(again)
    s.ping("S")
    s.end("S")


@scenario("invalid-utf8")
def utf8(s):
    """Paths and ids that are not UTF-8."""
    s.session("A")
    for raw in (b"/g-\xff", b"/g-\xc3", b"/g-\xed\xa0\x80", b"/g-\xf0\x9f\x98\x80"):
        s.call("A", "exists", jute.buffer(raw) + jute.boolean(False), repr(raw), expect=-101)
        s.call("A", "create", jute.buffer(raw) + jute.buffer("") + jute.acl(jute.OPEN) + jute.i32(0), repr(raw), expect=-8)
    s.end("A")


@scenario("null-paths")
def null_paths(s):
    """Reads of a path that is null."""
    s.session("A")
    null = jute.buffer(None)
    for op in ("exists", "getData", "getChildren", "getChildren2"):
        s.call("A", op, null + jute.boolean(False), "null path", expect=-5)
    for op in ("getACL", "getAllChildrenNumber"):
        s.call("A", op, null, "null path", expect=-5)
    s.end("A")


@scenario("null-path-sync")
def null_path_sync(s):
    """sync of a path that is null just returns it."""
    s.session("A")
    s.call("A", "sync", jute.buffer(None), "null path")
    s.end("A")


@scenario("null-path-writes")
def null_path_writes(s):
    """Writes to a path that is null: they can be decoded, so each takes a zxid and fails for it."""
    s.session("A")
    null, open_acl = jute.buffer(None), jute.acl(jute.OPEN)
    for op in ("create", "create2", "createContainer"):
        s.call("A", op, null + jute.buffer("") + open_acl + jute.i32(0), "null path", expect=-5)
    s.call("A", "delete", null + jute.i32(-1), "null path", expect=-5)
    s.call("A", "setData", null + jute.buffer("") + jute.i32(-1), "null path", expect=-8)
    s.call("A", "setACL", null + open_acl + jute.i32(-1), "null path", expect=-8)
    s.end("A")
