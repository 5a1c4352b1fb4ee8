"""Transactions (multi) and batched reads (multiRead)."""

import jute
from jute import CONTAINER, EPHEMERAL, OPCODES, SEQUENTIAL, TTL
from session import create_body
from .registry import scenario


def op(name, *chunks):
    return OPCODES[name], [c for part in chunks for c in part]


def create(path, data=b"", flags=0, kind="create", acl=None, ttl=None):
    return OPCODES[kind], create_body(path, data, flags, acl, ttl)


def delete(path, version=-1):
    return op("delete", jute.buffer(path), jute.i32(version))


def set_data(path, data, version=-1):
    return op("setData", jute.buffer(path), jute.buffer(data), jute.i32(version))


def check(path, version=-1):
    return op("check", jute.buffer(path), jute.i32(version))


def get_data(path, watch=False):
    return op("getData", jute.buffer(path), jute.boolean(watch))


def get_children(path, watch=False):
    return op("getChildren", jute.buffer(path), jute.boolean(watch))


def multi(s, conn, ops, comment="", expect=0, events=0):
    s.call(conn, "multi", jute.multi_ops(ops), comment, expect, events)


@scenario("multi", settings={"zookeeper.extendedTypesEnabled": "true"})
def success(s):
    """Transactions that succeed: one zxid, one time, results after each sub-operation."""
    s.session("A")
    multi(s, "A", [create("/g-multi", b"root"), create("/g-multi/a", b"a"), create("/g-multi/b", b"b", kind="create2")])
    s.read("A", "getChildren2", "/g-multi")
    multi(s, "A", [check("/g-multi/a", 0), set_data("/g-multi/a", b"a1", 0), check("/g-multi/a", 1),
                   set_data("/g-multi/a", None, 1), delete("/g-multi/b", 0)], "each sees what the ones before it did")
    s.read("A", "getData", "/g-multi/a")
    multi(s, "A", [create("/g-multi/s-", flags=SEQUENTIAL), create("/g-multi/s-", flags=SEQUENTIAL, kind="create2"),
                   create("/g-multi/e-", flags=EPHEMERAL), create("/g-multi/s-", flags=SEQUENTIAL)])
    s.read("A", "getChildren2", "/g-multi")
    s.call("A", "getEphemerals", jute.buffer("/g-multi"), "/g-multi")
    s.note("create and delete of the same name; a parent that did not exist before")
    multi(s, "A", [create("/g-multi/t", b"1"), delete("/g-multi/t"), create("/g-multi/t", b"2"), create("/g-multi/t/u"),
                   delete("/g-multi/t/u"), delete("/g-multi/t")])
    s.read("A", "exists", "/g-multi")
    s.note("containers and TTL nodes answer as create2 does; flag 4 makes a container whatever the opcode")
    multi(s, "A", [create("/g-multi/c", flags=CONTAINER, kind="createContainer"),
                   create("/g-multi/ttl", flags=TTL, kind="createTTL", ttl=3_600_000),
                   create("/g-multi/c4", flags=CONTAINER), create("/g-multi/c5", flags=CONTAINER, kind="create2")])
    s.note("a transaction of nothing, and of one check")
    multi(s, "A", [], "empty")
    multi(s, "A", [check("/g-multi")])
    s.ping("A")
    multi(s, "A", [delete("/g-multi/" + n) for n in ("a", "s-0000000002", "s-0000000003", "e-", "s-0000000005", "c", "ttl", "c4", "c5")])
    multi(s, "A", [delete("/g-multi")])
    s.end("A")


@scenario("multi-errors")
def failure(s):
    """Transactions that fail: nothing happens, and every sub-operation says why."""
    s.session("A")
    s.create("A", "/g-multierr", b"x")
    s.create("A", "/g-multierr/full")
    s.create("A", "/g-multierr/full/child")
    s.create("A", "/g-multierr/eph", flags=EPHEMERAL)
    good = create("/g-multierr/new")
    for bad, why in (
        (check("/g-multierr", 5), "BADVERSION"), (check("/g-none"), "NONODE"), (check("relative"), "BADARGUMENTS"),
        (create("/g-multierr"), "NODEEXISTS"), (create("/g-none/x"), "NONODE"), (create("/g-multierr/eph/x"), "NOCHILDRENFOREPHEMERALS"),
        (create("/g-multierr/a", acl=[(31, "nope", "x")]), "INVALIDACL"), (create("bad"), "BADARGUMENTS"),
        (create("/g-multierr/new"), "NODEEXISTS by the first"), (create("/g-none/y", kind="create2"), "NONODE"),
        (delete("/g-multierr/full"), "NOTEMPTY"), (delete("/g-none"), "NONODE"), (delete("/g-multierr", 9), "BADVERSION"),
        (delete("/"), "BADARGUMENTS"), (set_data("/g-none", b""), "NONODE"), (set_data("/g-multierr", b"", 3), "BADVERSION"),
        (set_data("/g-multierr/", b""), "BADARGUMENTS"),
    ):
        multi(s, "A", [good, set_data("/g-multierr", b"changed"), bad, delete("/g-multierr/new"), check("/g-none")], why)
    s.note("the first one fails; the last one fails")
    multi(s, "A", [check("/g-none"), good])
    multi(s, "A", [good, check("/g-none")])
    s.note("nothing of all this happened; sequence numbers are rolled back too")
    s.read("A", "getData", "/g-multierr")
    s.read("A", "getChildren2", "/g-multierr")
    multi(s, "A", [create("/g-multierr/s-", flags=SEQUENTIAL), create("/g-multierr/s-", flags=SEQUENTIAL), check("/g-none")])
    s.create("A", "/g-multierr/s-", flags=SEQUENTIAL)
    s.note("no permission")
    s.session("B")
    s.auth("A", "digest", "user:pass")
    s.set_acl("A", "/g-multierr/full", [(31, "auth", ""), (1, "world", "anyone")])
    s.sync("B")
    multi(s, "B", [create("/g-multierr/new"), create("/g-multierr/full/x")], "NOAUTH")
    multi(s, "B", [set_data("/g-multierr/full", b""), create("/g-multierr/new")], "NOAUTH")
    s.end("B")
    s.sync("A")
    s.remove("A", "/g-multierr/s-0000000002", "/g-multierr/eph", "/g-multierr/full/child", "/g-multierr/full", "/g-multierr")
    s.end("A")


@scenario("multi-ttl-disabled")
def ttl_disabled(s):
    """TTL nodes in a transaction without zookeeper.extendedTypesEnabled."""
    s.session("A")
    s.create("A", "/g-multittl")
    multi(s, "A", [create("/g-multittl/x", flags=TTL, kind="createTTL", ttl=5000)])
    s.note("a createTTL whose flags have no ttl is a plain create here")
    multi(s, "A", [create("/g-multittl/y", b"y", flags=0, kind="createTTL", ttl=5000)])
    s.read("A", "getChildren2", "/g-multittl")
    s.read("A", "exists", "/g-multittl/y")
    s.remove("A", "/g-multittl/y", "/g-multittl")
    s.end("A")


@scenario("multi-read")
def multi_read(s):
    """multiRead: every read succeeds or fails by itself, watch flags are ignored, no zxid is used."""
    s.session("A")
    s.create("A", "/g-mread", b"data")
    s.create("A", "/g-mread/a", None)
    s.create("A", "/g-mread/b", b"")
    s.create("A", "/g-mread/hidden", b"h", acl=[(2, "world", "anyone")])
    read = lambda ops, comment="": s.call("A", "multiRead", jute.multi_ops(ops), comment)
    read([get_data("/g-mread"), get_children("/g-mread"), get_data("/g-mread/a"), get_data("/g-mread/b")])
    read([get_data("/g-none"), get_children("/g-none"), get_data("/g-mread/hidden"), get_data("/g-mread")])
    read([get_children("/g-mread/hidden"), get_children("/g-mread/a")])
    read([], "empty")
    read([get_data("/g-mread", True), get_children("/g-mread", True)], "with watch flags")
    s.set("A", "/g-mread", b"no event follows")
    s.delete("A", "/g-mread/a")
    s.ping("A")
    s.remove("A", "/g-mread/b", "/g-mread/hidden", "/g-mread")
    s.end("A")
