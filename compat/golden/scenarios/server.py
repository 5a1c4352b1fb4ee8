"""The built-in tree, quotas, reconfig: what belongs to the server rather than to a znode of a client."""

import jute
from jute import EPHEMERAL, OPCODES, SEQUENTIAL
from .multi import create, delete, multi
from .registry import scenario


@scenario("builtin-tree", fresh=True)
def builtin(s):
    """The tree of a fresh standalone server."""
    s.session("A")
    for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
        s.read("A", "exists", path)
        s.read("A", "getData", path)
        s.read("A", "getChildren2", path)
        s.get_acl("A", path)
        s.call("A", "getAllChildrenNumber", jute.buffer(path), path)
    s.note("a first child of the root, and what it does to the root's Stat")
    s.create("A", "/g-first")
    s.read("A", "exists", "/")
    s.call("A", "getAllChildrenNumber", jute.buffer("/"), "/")
    s.create("A", "/g-", flags=SEQUENTIAL)
    s.delete("A", "/g-0000000001")
    s.read("A", "getChildren2", "/")
    s.note("the root can be written and watched")
    s.read("A", "getData", "/", watch=True)
    s.read("A", "getChildren", "/", watch=True)
    s.set("A", "/", b"root", 0, events=1)
    s.delete("A", "/g-first", events=1)
    s.set_acl("A", "/", [(31, "world", "anyone"), (1, "ip", "127.0.0.1")], 0)
    s.read("A", "exists", "/")
    s.note("below /zookeeper clients may create; its configuration nobody may write")
    s.create("A", "/zookeeper/mine", b"x")
    s.read("A", "exists", "/zookeeper")
    s.delete("A", "/zookeeper/mine")
    s.set("A", "/zookeeper", b"x")
    s.set("A", "/zookeeper/config", b"x", expect=-102)
    s.create("A", "/zookeeper/config/x", expect=-102)
    s.set_acl("A", "/zookeeper/config", jute.OPEN, expect=-102)
    s.end("A")


@scenario("root-alias", fresh=True)
def root_alias(s):
    """The root is also called by the empty name, and then counts itself among its descendants."""
    s.session("A")
    for op in ("exists", "getData", "getChildren", "getChildren2"):
        s.read("A", op, "")
    s.get_acl("A", "")
    s.call("A", "getAllChildrenNumber", jute.buffer(""), "empty path")
    s.end("A")


def quota(s, conn, path, limits):
    """What `setquota` of zkCli sends, the quota's parents apart."""
    s.create(conn, f"/zookeeper/quota{path}/zookeeper_limits", limits)
    s.create(conn, f"/zookeeper/quota{path}/zookeeper_stats", b"count=0,bytes=0")


def stats(s, conn, path):
    s.read(conn, "getData", f"/zookeeper/quota{path}/zookeeper_stats")


def remove_quota(s, conn, path):
    for name in ("/zookeeper_limits", "/zookeeper_stats", ""):
        s.delete(conn, f"/zookeeper/quota{path}{name}")


@scenario("quota-hard", settings={"zookeeper.enforceQuota": "true"})
def hard(s):
    """Hard quotas with zookeeper.enforceQuota=true."""
    s.session("A")
    s.create("A", "/g-quota", b"12345")
    s.create("A", "/zookeeper/quota/g-quota")
    quota(s, "A", "/g-quota", b"count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=3")
    stats(s, "A", "/g-quota")
    s.create("A", "/g-quota/a", b"1234567890")
    stats(s, "A", "/g-quota")
    s.note("15 of 20 bytes, 2 of 3 nodes")
    s.create("A", "/g-quota/big", b"123456", expect=-125)
    s.set("A", "/g-quota/a", b"1234567890123456", expect=-125)
    s.set("A", "/g-quota/a", b"123456789012345")
    s.set("A", "/g-quota", b"54321")
    s.create("A", "/g-quota/b")
    s.create("A", "/g-quota/c", expect=-125)
    s.create("A", "/g-quota/b", expect=-110)
    s.create("A", "/g-quota/c", op="create2", expect=-125)
    stats(s, "A", "/g-quota")
    s.set("A", "/g-quota/a", b"")
    stats(s, "A", "/g-quota")
    s.read("A", "exists", "/g-quota")
    s.note("the quota node's Stat does not move with its numbers")
    s.read("A", "exists", "/zookeeper/quota/g-quota/zookeeper_stats")
    s.note("without limits there is no quota")
    s.delete("A", "/zookeeper/quota/g-quota/zookeeper_limits")
    s.create("A", "/g-quota/d", b"123456789012345678901234567890")
    s.remove("A", "/zookeeper/quota/g-quota/zookeeper_stats", "/zookeeper/quota/g-quota")
    s.remove("A", "/g-quota/a", "/g-quota/d")
    s.delete("A", "/g-quota/b")
    s.delete("A", "/g-quota")
    s.end("A")


@scenario("differs-quota-multi", settings={"zookeeper.enforceQuota": "true"})
def hard_multi(s):
    """Hard quotas within one transaction: Apache ZooKeeper measures it by the transactions before it, Ostler by what it does itself."""
    s.session("A")
    s.create("A", "/g-qmulti")
    s.create("A", "/g-qmulti/b")
    s.create("A", "/zookeeper/quota/g-qmulti")
    quota(s, "A", "/g-qmulti", b"count=-1,bytes=-1=;countHardLimit=2")
    ops = [delete("/g-qmulti/b"), create("/g-qmulti/c")]
    s.only("zookeeper")
    multi(s, "A", ops, "room is made in the same transaction")
    s.read("A", "getChildren2", "/g-qmulti")
    remove_quota(s, "A", "/g-qmulti")
    s.remove("A", "/g-qmulti/b", "/g-qmulti")
    s.end("A")
    s.only(None)
    s.ostler_send("A", "multi", jute.multi_ops(ops), xid=6)
    done = jute.i32(OPCODES["delete"]) + jute.boolean(False) + jute.i32(0)
    created = jute.i32(OPCODES["create"]) + jute.boolean(False) + jute.i32(0) + jute.buffer("/g-qmulti/c")
    s.ostler_reply("A", 6, jute.zxid(6), 0, done + created + jute.i32(-1) + jute.boolean(True) + jute.i32(-1))
    s.ostler_send("A", "closeSession", xid=7)
    s.ostler_reply("A", 7, jute.zxid(7), 0)
    s.ostler("A! closed")


@scenario("quota-soft")
def soft(s):
    """Quotas that only count: soft limits, and hard ones without zookeeper.enforceQuota."""
    s.session("A")
    s.create("A", "/g-soft", b"1")
    s.create("A", "/g-soft/before", b"22")
    s.create("A", "/zookeeper/quota/g-soft")
    quota(s, "A", "/g-soft", b"count=1,bytes=1=;byteHardLimit=1;countHardLimit=1")
    stats(s, "A", "/g-soft")
    s.create("A", "/g-soft/after", b"333")
    s.create("A", "/g-soft/after/deep", b"4444")
    s.create("A", "/g-soft/null", None)
    s.create("A", "/g-soft/eph", b"5", flags=EPHEMERAL)
    stats(s, "A", "/g-soft")
    s.set("A", "/g-soft/after", b"")
    s.delete("A", "/g-soft/after/deep")
    s.note("only the deepest quota on the way is charged")
    s.create("A", "/zookeeper/quota/g-soft/after")
    quota(s, "A", "/g-soft/after", b"count=5,bytes=-1")
    s.create("A", "/g-soft/after/x", b"666666")
    stats(s, "A", "/g-soft/after")
    stats(s, "A", "/g-soft")
    remove_quota(s, "A", "/g-soft/after")
    remove_quota(s, "A", "/g-soft")
    s.remove("A", "/g-soft/after/x", "/g-soft/after", "/g-soft/before", "/g-soft/null", "/g-soft/eph", "/g-soft")
    s.end("A")


def reconfig_body(joining=None, leaving=None, members=None, config=-1):
    return jute.buffer(joining) + jute.buffer(leaving) + jute.buffer(members) + jute.i64(config)


@scenario("reconfig-disabled")
def reconfig_disabled(s):
    """reconfig while reconfigEnabled is false, ZooKeeper's default."""
    s.session("A")
    s.call("A", "reconfig", reconfig_body(joining="server.2=127.0.0.1:2888:3888;2182"), expect=-123)
    s.call("A", "reconfig", reconfig_body(), expect=-123)
    s.ping("A")
    s.end("A")


@scenario("reconfig-standalone", settings={"reconfigEnabled": "true"})
def reconfig(s):
    """reconfig on a standalone server."""
    s.session("A")
    s.call("A", "reconfig", reconfig_body(joining="server.2=127.0.0.1:2888:3888;2182"), expect=-6)
    s.call("A", "reconfig", reconfig_body(leaving="1"), expect=-6)
    s.call("A", "reconfig", reconfig_body(members="nonsense", config=7), expect=-6)
    s.ping("A")
    s.end("A")
