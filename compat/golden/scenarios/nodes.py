"""Creating, reading, changing and deleting znodes."""

import jute
from jute import CONTAINER, EPHEMERAL, EPHEMERAL_SEQUENTIAL, SEQUENTIAL, SEQUENTIAL_TTL, TTL
from .registry import scenario

EXTENDED = {"zookeeper.extendedTypesEnabled": "true"}


@scenario("create")
def create(s):
    """create and create2: plain, ephemeral, null and empty data, non-ASCII names."""
    s.session("A")
    s.create("A", "/g-create", b"root")
    s.read("A", "exists", "/g-create")
    s.create("A", "/g-create/null", None)
    s.create("A", "/g-create/empty", b"")
    s.create("A", "/g-create/eph", b"e", flags=EPHEMERAL)
    s.create("A", "/g-create/two", b"22", op="create2")
    s.create("A", "/g-create/eph2", b"ee", flags=EPHEMERAL, op="create2")
    s.create("A", "/g-create/gr\u00fc\u00df \u6f22", b"\x00\xff", op="create2")
    s.note("null data is null again when read, empty is empty")
    for name in ("null", "empty", "eph", "two", "eph2", "gr\u00fc\u00df \u6f22"):
        s.read("A", "getData", f"/g-create/{name}")
    s.read("A", "getChildren2", "/g-create")
    s.create("A", "/g-create/two/deep")
    s.create("A", "/g-create/two/deep/er", b"d")
    s.read("A", "exists", "/g-create/two")
    s.remove("A", "/g-create/two/deep/er", "/g-create/two/deep", "/g-create/two", "/g-create/null", "/g-create/empty")
    s.remove("A", "/g-create/eph", "/g-create/eph2", "/g-create/gr\u00fc\u00df \u6f22", "/g-create")
    s.end("A")


@scenario("create-errors")
def create_errors(s):
    """Which error a bad create gets; every one of them takes a zxid."""
    s.session("A")
    s.create("A", "/g-bad")
    s.create("A", "/g-bad/eph", flags=EPHEMERAL)
    for op in ("create", "create2"):
        s.create("A", "/g-bad", op=op, expect=-110)
        s.create("A", "/g-bad/no/parent", op=op, expect=-101)
        s.create("A", "/g-bad/eph/child", op=op, expect=-108)
    s.note("flags")
    for flags in (-1, 7, 8, 2**31 - 1):
        s.create("A", "/g-bad/flags", flags=flags, expect=-8)
    s.note("paths")
    for path in ("", "relative", "/g-bad/", "/g-bad//x", "/g-bad/./x", "/g-bad/..", "/g-bad/.", "/g-bad/\x01",
                 "/g-bad/\x7f", "/g-bad/\u0085", "/g-bad/\ue000", "/g-bad/\uf8ff", "/g-bad/\ufff0", "/g-bad/nul\0"):
        s.create("A", path, expect=-101 if path in ("/g-bad//x", "/g-bad/./x") else -8)
    s.note("these are legal")
    for path in ("/g-bad/...", "/g-bad/.x", "/g-bad/ ", "/g-bad/\u00a0", "/g-bad/\uffef"):
        s.create("A", path)
        s.delete("A", path)
    s.note("which error wins")
    s.create("A", "/", expect=-110)
    s.create("A", "/g-none/", expect=-101)
    s.create("A", "/g-none/x", acl=[], expect=-114)
    s.create("A", "relative", acl=[], expect=-8)
    s.create("A", "/g-bad", acl=[], expect=-114)
    s.create("A", "/g-bad/x", flags=9, acl=[], expect=-8)
    s.read("A", "exists", "/g-bad")
    s.remove("A", "/g-bad/eph", "/g-bad")
    s.end("A")


@scenario("create-sequential")
def sequential(s):
    """Sequence names count the children ever created, of any kind, and deletes do not lower them."""
    s.session("A")
    s.create("A", "/g-seq")
    s.create("A", "/g-seq/s-", b"0", flags=SEQUENTIAL)
    s.create("A", "/g-seq/s-", b"1", flags=SEQUENTIAL, op="create2")
    s.create("A", "/g-seq/plain", b"2")
    s.create("A", "/g-seq/e-", b"3", flags=EPHEMERAL_SEQUENTIAL)
    s.delete("A", "/g-seq/plain")
    s.create("A", "/g-seq/", b"4", flags=SEQUENTIAL)
    s.create("A", "/g-seq/e-", b"5", flags=EPHEMERAL_SEQUENTIAL, op="create2")
    s.note("a failed create does not count")
    s.create("A", "/g-seq/s-0000000000", expect=-110)
    s.create("A", "/g-seq/x\0", flags=SEQUENTIAL, expect=-8)
    s.create("A", "/g-seq/s-", b"6", flags=SEQUENTIAL)
    s.note("a sequence name that is taken")
    s.create("A", "/g-seq/t-0000000007")
    s.create("A", "/g-seq/t-0000000009")
    s.create("A", "/g-seq/t-", flags=SEQUENTIAL, expect=-110)
    s.read("A", "getChildren2", "/g-seq")
    s.remove("A", "/g-seq/s-0000000000", "/g-seq/s-0000000001", "/g-seq/e-0000000003", "/g-seq/0000000004")
    s.remove("A", "/g-seq/e-0000000005", "/g-seq/s-0000000006", "/g-seq/t-0000000007", "/g-seq/t-0000000009")
    s.read("A", "exists", "/g-seq")
    s.remove("A", "/g-seq")
    s.end("A")


@scenario("create-container")
def container(s):
    """Containers: op 19 whatever the flags, no owner in Stat."""
    s.session("A")
    s.create("A", "/g-container", b"c", flags=CONTAINER, op="createContainer")
    s.read("A", "exists", "/g-container")
    s.create("A", "/g-container/child", b"x")
    s.create("A", "/g-container/nested", b"x", flags=CONTAINER, op="createContainer")
    s.create("A", "/g-container", flags=CONTAINER, op="createContainer", expect=-110)
    s.create("A", "/g-container/none/x", flags=CONTAINER, op="createContainer", expect=-101)
    s.note("the opcode decides what is stored, the flags only how the name is made")
    s.create("A", "/g-container/zero", flags=0, op="createContainer")
    s.create("A", "/g-container/s-", flags=SEQUENTIAL, op="createContainer")
    s.create("A", "/g-container/bad", flags=11, op="createContainer", expect=-8)
    s.read("A", "getChildren2", "/g-container")
    s.remove("A", "/g-container/child", "/g-container/nested", "/g-container/zero", "/g-container/s-0000000003", "/g-container")
    s.end("A")


@scenario("create-ttl", settings=EXTENDED)
def ttl(s):
    """TTL nodes with zookeeper.extendedTypesEnabled=true: bounds of the ttl, no owner in Stat."""
    s.session("A")
    s.create("A", "/g-ttl")
    s.create("A", "/g-ttl/one", b"t", flags=TTL, op="createTTL", ttl=3_600_000)
    s.read("A", "getData", "/g-ttl/one")
    s.create("A", "/g-ttl/s-", b"t", flags=SEQUENTIAL_TTL, op="createTTL", ttl=3_600_000)
    s.create("A", "/g-ttl/one/child", b"allowed")
    s.create("A", "/g-ttl/max", flags=TTL, op="createTTL", ttl=2**40 - 1)
    for value in (0, -1, -5, 2**40, 2**63 - 1):
        s.create("A", "/g-ttl/bad", flags=TTL, op="createTTL", ttl=value, expect=-8)
    s.create("A", "/g-ttl/bad", flags=9, op="createTTL", ttl=5000, expect=-8)
    s.note("a ttl with flags that have none")
    s.create("A", "/g-ttl/bad", flags=0, op="createTTL", ttl=5000, expect=-8)
    s.create("A", "/g-ttl/bad", flags=EPHEMERAL, op="createTTL", ttl=5000, expect=-8)
    s.create("A", "/g-ttl/one", flags=TTL, op="createTTL", ttl=5000, expect=-110)
    s.create("A", "/g-ttl/none/x", flags=TTL, op="createTTL", ttl=5000, expect=-101)
    s.note("ttl flags with an opcode that carries no ttl")
    s.create("A", "/g-ttl/bad", flags=TTL, expect=-8)
    s.create("A", "/g-ttl/bad", flags=SEQUENTIAL_TTL, op="create2", expect=-8)
    s.read("A", "getChildren2", "/g-ttl")
    s.remove("A", "/g-ttl/one/child", "/g-ttl/one", "/g-ttl/s-0000000001", "/g-ttl/max", "/g-ttl")
    s.end("A")


@scenario("create-ttl-disabled")
def ttl_disabled(s):
    """TTL nodes without zookeeper.extendedTypesEnabled: not implemented, whatever else is wrong."""
    s.session("A")
    s.create("A", "/g-nottl")
    s.create("A", "/g-nottl/x", flags=TTL, op="createTTL", ttl=5000, expect=-6)
    s.create("A", "/g-nottl/x", flags=SEQUENTIAL_TTL, op="createTTL", ttl=5000, expect=-6)
    s.create("A", "/g-nottl/x", flags=TTL, op="createTTL", ttl=-1, expect=-6)
    s.create("A", "relative", flags=TTL, op="createTTL", ttl=0, expect=-6)
    s.create("A", "/g-nottl/x", flags=TTL, expect=-6)
    s.create("A", "/g-nottl/x", flags=9, op="createTTL", ttl=5000, expect=-8)
    s.create("A", "/g-nottl/x", flags=0, op="createTTL", ttl=5000, expect=-8)
    s.read("A", "exists", "/g-nottl")
    s.remove("A", "/g-nottl")
    s.end("A")


@scenario("delete")
def delete(s):
    """delete: version, children, paths that cannot be deleted."""
    s.session("A")
    s.create("A", "/g-delete")
    s.create("A", "/g-delete/v", b"0")
    s.set("A", "/g-delete/v", b"1")
    for version in (0, 2, -2):
        s.delete("A", "/g-delete/v", version, expect=-103)
    s.delete("A", "/g-delete/v", 1)
    s.delete("A", "/g-delete/v", 1, expect=-101)
    s.create("A", "/g-delete/p")
    s.create("A", "/g-delete/p/c")
    s.delete("A", "/g-delete/p", expect=-111)
    s.note("a wrong version wins over children")
    s.delete("A", "/g-delete/p", 5, expect=-103)
    s.delete("A", "/g-none/x", expect=-101)
    s.note("paths")
    for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "", "relative", "/g-delete/nul\0"):
        s.delete("A", path, expect=-8)
    s.delete("A", "/g-delete/", expect=-101)
    s.delete("A", "/g-delete//p", expect=-101)
    s.remove("A", "/g-delete/p/c", "/g-delete/p")
    s.read("A", "exists", "/g-delete")
    s.delete("A", "/g-delete", 0)
    s.end("A")


@scenario("data")
def data(s):
    """exists, getData and setData: null and empty data, versions, errors."""
    s.session("A")
    s.create("A", "/g-data", b"first")
    s.read("A", "exists", "/g-data")
    s.read("A", "getData", "/g-data")
    s.set("A", "/g-data", b"second", 0)
    s.set("A", "/g-data", b"third", 0, expect=-103)
    s.set("A", "/g-data", b"third", 2, expect=-103)
    s.set("A", "/g-data", b"third", -2, expect=-103)
    s.set("A", "/g-data", b"", -1)
    s.read("A", "getData", "/g-data")
    s.set("A", "/g-data", None, 2)
    s.read("A", "getData", "/g-data")
    s.read("A", "exists", "/g-data")
    s.set("A", "/g-data", bytes(range(256)))
    s.read("A", "getData", "/g-data")
    s.note("errors")
    for op in ("exists", "getData"):
        s.read("A", op, "/g-none", expect=-101)
        s.read("A", op, "relative", expect=-101)
        s.read("A", op, "/g-data/", expect=-101)
    s.note("a path holding NUL is looked at by exists only; the root is also called by the empty name")
    s.read("A", "exists", "/g-data\0", expect=-8)
    s.read("A", "getData", "/g-data\0", expect=-101)
    s.set("A", "/g-none", b"x", expect=-101)
    for path in ("relative", "", "/g-data/", "/g-data//x", "/g-data/.", "/g-data\0", "/g-data/\x01"):
        s.set("A", path, b"x", expect=-8)
    s.set("A", "/g-none", b"x", 5, expect=-101)
    s.note("the watch flag is a byte, true if it is not zero")
    s.call("A", "exists", jute.buffer("/g-data") + [b"\x02"], "watch=0x02")
    s.set("A", "/g-data", b"seen", events=1)
    s.note("bytes after the last field are ignored")
    s.call("A", "getData", jute.buffer("/g-data") + jute.boolean(False) + [b"trailing"])
    s.call("A", "setData", jute.buffer("/g-data") + jute.buffer("z") + jute.i32(-1) + [b"trailing"])
    s.remove("A", "/g-data")
    s.end("A")


@scenario("children")
def children(s):
    """getChildren, getChildren2 and getAllChildrenNumber; what creates and deletes do to the parent's Stat."""
    s.session("A")
    s.create("A", "/g-children")
    s.read("A", "getChildren", "/g-children")
    s.read("A", "getChildren2", "/g-children")
    for name in ("a", "b", "c"):
        s.create("A", f"/g-children/{name}")
    s.create("A", "/g-children/a/deep")
    s.create("A", "/g-children/a/deep/er")
    s.read("A", "getChildren", "/g-children")
    s.read("A", "getChildren2", "/g-children")
    s.delete("A", "/g-children/b")
    s.read("A", "getChildren2", "/g-children")
    s.note("neither data nor ACL of a child touch the parent")
    s.set("A", "/g-children/c", b"x")
    s.set_acl("A", "/g-children/c", jute.OPEN)
    s.read("A", "getChildren2", "/g-children")
    for path in ("/g-children", "/g-children/a", "/g-children/c"):
        s.call("A", "getAllChildrenNumber", jute.buffer(path), path)
    for path in ("/g-none", "relative", "/g-children/"):
        s.read("A", "getChildren", path, expect=-101)
        s.read("A", "getChildren2", path, expect=-101)
        s.call("A", "getAllChildrenNumber", jute.buffer(path), path, expect=-101)
    s.remove("A", "/g-children/a/deep/er", "/g-children/a/deep", "/g-children/a", "/g-children/c", "/g-children")
    s.end("A")


@scenario("ephemerals")
def ephemerals(s):
    """Ephemeral nodes of two sessions, and getEphemerals, which filters by a plain string prefix."""
    s.session("A")
    s.session("B")
    s.create("A", "/g-eph")
    s.call("A", "getEphemerals", jute.buffer("/"), "/")
    s.create("A", "/g-eph/one", b"1", flags=EPHEMERAL)
    s.create("A", "/g-eph/ones", b"1", flags=EPHEMERAL)
    s.create("A", "/g-eph/two", b"2", flags=EPHEMERAL)
    s.create("B", "/g-eph/other", b"o", flags=EPHEMERAL)
    s.sync("A")
    for prefix in ("/", "", "/g-eph", "/g-eph/one", "/g-eph/o", "/g-eph/two", "/none", "relative", "  "):
        s.call("A", "getEphemerals", jute.buffer(prefix), repr(prefix))
    s.call("A", "getEphemerals", jute.buffer(None), "null prefix")
    s.call("B", "getEphemerals", jute.buffer("/"), "/")
    s.note("anybody may read, change and delete another session's ephemeral")
    s.read("B", "getData", "/g-eph/one")
    s.set("B", "/g-eph/one", b"changed")
    s.delete("B", "/g-eph/two")
    s.sync("A")
    s.call("A", "getEphemerals", jute.buffer("/g-eph/t"), "/g-eph/t")
    s.note("the end of a session takes them away with one zxid")
    s.end("A")
    s.sync("B")
    s.read("B", "getChildren2", "/g-eph")
    s.remove("B", "/g-eph/other", "/g-eph")
    s.end("B")
