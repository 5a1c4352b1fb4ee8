"""ACLs, authentication, the super user."""

import jute
from jute import ADMIN, ALL, CREATE, DELETE, OPEN, READ, WRITE
from .registry import scenario

# user:pass and other:word as the digest scheme stores them.
USER = "user:smGaoVKd/cQkjm7b88GyorAUz20="
SUPER_DIGEST = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="


@scenario("acl")
def acl(s):
    """getACL and setACL: aversion, duplicates, the auth scheme, digests masked for those without ADMIN."""
    s.session("A")
    s.create("A", "/g-acl")
    s.get_acl("A", "/g-acl")
    s.set_acl("A", "/g-acl", [(ALL, "world", "anyone"), (READ, "ip", "127.0.0.1")], 0)
    s.get_acl("A", "/g-acl")
    s.set_acl("A", "/g-acl", OPEN, 0, expect=-103)
    s.set_acl("A", "/g-acl", OPEN, 1)
    s.set_acl("A", "/g-acl", OPEN, -1)
    s.read("A", "exists", "/g-acl")
    s.note("exact duplicates are dropped; order is kept; perms are not checked")
    s.set_acl("A", "/g-acl", [(READ, "ip", "10.0.0.0/8"), (ALL, "world", "anyone"), (READ, "ip", "10.0.0.0/8")])
    s.get_acl("A", "/g-acl")
    s.set_acl("A", "/g-acl", [(255, "world", "anyone"), (0, "ip", "::1"), (-1, "ip", "fe80::/10")])
    s.get_acl("A", "/g-acl")
    s.note("which error wins")
    s.set_acl("A", "/g-none", OPEN, expect=-101)
    s.set_acl("A", "/g-none", [], expect=-114)
    s.set_acl("A", "relative", [], expect=-8)
    s.get_acl("A", "/g-none", expect=-101)
    s.note("scheme auth stands for the ids of the connection")
    s.set_acl("A", "/g-acl", [(ALL, "auth", "")], expect=-114)
    s.auth("A", "digest", "user:pass")
    s.set_acl("A", "/g-acl", [(ALL, "auth", "ignored"), (READ, "world", "anyone")])
    s.get_acl("A", "/g-acl")
    s.auth("A", "digest", "other:word")
    s.create("A", "/g-acl/two", b"t", acl=[(ALL, "auth", "")])
    s.get_acl("A", "/g-acl/two", unordered=True)
    s.note("without ADMIN the digest is masked; without READ or ADMIN there is nothing to see")
    s.session("B")
    s.get_acl("B", "/g-acl")
    s.get_acl("B", "/g-acl/two", expect=-102)
    s.remove("A", "/g-acl/two", "/g-acl")
    s.end("A", "B")


@scenario("acl-invalid")
def acl_invalid(s):
    """ACL lists that are refused, by create and by setACL."""
    s.session("A")
    s.create("A", "/g-inv")
    bad = [
        None, [], [(ALL, "world", "someone")], [(ALL, "world", "")], [(ALL, "super", "x")], [(ALL, "nope", "x")],
        [(ALL, "", "")], [(ALL, "digest", "user")], [(ALL, "digest", "user:")], [(ALL, "digest", "a:b:c")],
        [(ALL, "digest", "")], [(ALL, "ip", "nonsense")], [(ALL, "ip", "127.0.0.1/33")], [(ALL, "ip", "127.0.0.1/-1")],
        [(ALL, "ip", "1.2.3")], [(ALL, "ip", "::1/129")], [(ALL, "sasl", "user")], [(ALL, None, "anyone")],
        [(ALL, "world", "anyone"), (ALL, "nope", "x")], [(READ, "auth", "")],
    ]
    for entries in bad:
        s.set_acl("A", "/g-inv", entries, expect=-114)
    for entries in bad[1:4] + bad[5:8] + bad[17:19]:
        s.call("A", "create", jute.buffer("/g-inv/x") + jute.buffer("") + jute.acl(entries) + jute.i32(0), str(entries), expect=-114)
    s.note("legal ones")
    for entries in ([(ALL, "digest", "a:b")], [(ALL, "ip", "127.0.0.1/8")], [(ALL, "ip", "::/0")], [(ALL, "ip", "0.0.0.0/0")]):
        s.create("A", "/g-inv/ok", acl=entries)
        s.delete("A", "/g-inv/ok")
    s.read("A", "exists", "/g-inv")
    s.remove("A", "/g-inv")
    s.end("A")


@scenario("acl-permissions")
def permissions(s):
    """Which permission each operation needs, and on which node."""
    s.session("A")
    s.session("B")
    s.auth("A", "digest", "user:pass")
    world = lambda perms: [(ALL, "digest", USER), (perms, "world", "anyone")]
    s.create("A", "/g-perm", b"x")
    s.create("A", "/g-perm/c", b"c")
    for perms in (0, READ, WRITE, CREATE, DELETE, ADMIN):
        s.note(f"everybody else has {perms}")
        s.set_acl("A", "/g-perm", world(perms))
        s.sync("B")
        s.read("B", "exists", "/g-perm", expect=0 if perms == READ else -102)
        s.read("B", "getData", "/g-perm", expect=0 if perms == READ else -102)
        s.read("B", "getChildren", "/g-perm", expect=0 if perms == READ else -102)
        s.read("B", "getChildren2", "/g-perm", expect=0 if perms == READ else -102)
        s.call("B", "getAllChildrenNumber", jute.buffer("/g-perm"), "/g-perm", expect=0 if perms == READ else -102)
        s.get_acl("B", "/g-perm", expect=0 if perms in (READ, ADMIN) else -102)
        s.set("B", "/g-perm", b"y", expect=0 if perms == WRITE else -102)
        s.create("B", "/g-perm/n", expect=0 if perms == CREATE else -102)
        s.delete("B", "/g-perm/c", expect=0 if perms == DELETE else -102)
        s.set_acl("B", "/g-perm", world(perms), expect=0 if perms == ADMIN else -102)
    s.note("the permissions of the parent say nothing about its children")
    s.set_acl("A", "/g-perm", world(0))
    s.sync("B")
    s.read("B", "getData", "/g-perm/n")
    s.set("B", "/g-perm/n", b"z")
    s.read("B", "getChildren", "/g-perm/n")
    s.note("NOAUTH wins over a wrong version, over an existing name and over a bad last component; NONODE wins over it")
    s.set("B", "/g-perm", b"y", 99, expect=-102)
    s.create("B", "/g-perm/n", expect=-102)
    s.create("B", "/g-perm/.", expect=-102)
    s.delete("B", "/g-perm/none", expect=-102)
    s.set_acl("B", "/g-perm", OPEN, 99, expect=-102)
    s.set("B", "/g-perm/none", b"y", expect=-101)
    s.note("ids of a connection end with it")
    s.drop("A")
    s.reattach("C", "A")
    s.read("C", "getData", "/g-perm", expect=-102)
    s.auth("C", "digest", "user:wrong")
    s.read("C", "getData", "/g-perm", expect=-102)
    s.auth("C", "digest", "user:pass")
    s.read("C", "getData", "/g-perm")
    s.note("ip: everything on this machine is 127.0.0.1")
    s.set_acl("C", "/g-perm/n", [(READ, "ip", "127.0.0.0/8"), (ALL, "digest", USER)])
    s.sync("B")
    s.read("B", "getData", "/g-perm/n")
    s.set("B", "/g-perm/n", b"", expect=-102)
    s.set_acl("C", "/g-perm/n", [(READ, "ip", "127.0.0.2"), (ALL, "digest", USER)])
    s.sync("B")
    s.read("B", "getData", "/g-perm/n", expect=-102)
    s.remove("C", "/g-perm/n", "/g-perm")
    s.end("B", "C")


@scenario("auth")
def auth(s):
    """auth packets and whoAmI."""
    s.session("A")
    s.call("A", "whoAmI")
    s.auth("A", "digest", "user:pass")
    s.call("A", "whoAmI")
    s.note("the same again changes nothing; more ids are added")
    s.auth("A", "digest", "user:pass")
    s.auth("A", "digest", "other:word")
    s.auth("A", "digest", "nocolon")
    s.auth("A", "digest", "")
    s.auth("A", "ip", "1.2.3.4")
    s.call("A", "whoAmI")
    s.note("the xid of an auth packet is echoed too; its type field is ignored")
    s.call("A", "auth", jute.i32(99) + jute.buffer("digest") + jute.buffer("third:x"), "digest", xid=42)
    s.note("an unknown scheme is an error, and the connection closes; the session stays")
    for conn, scheme in (("B", "nope"), ("C", ""), ("D", "world"), ("E", "super"), ("F", "sasl")):
        s.session(conn)
        s.call(conn, "auth", jute.i32(0) + jute.buffer(scheme) + jute.buffer("x"), scheme, xid=-4, expect=-115)
        s.closed(conn)
    for conn, name in (("G", "B"), ("H", "C"), ("I", "D"), ("J", "E"), ("K", "F")):
        s.reattach(conn, name)
    s.end("A", "G", "H", "I", "J", "K")


@scenario("sasl")
def sasl(s):
    """SASL on a server that has none configured."""
    s.session("A")
    s.call("A", "sasl", jute.buffer(b""), "empty token", expect=0)
    s.ping("A")
    s.end("A")


@scenario("super", settings={"zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST})
def super_user(s):
    """The super user passes every ACL, and is an id of its own."""
    s.session("A")
    s.auth("A", "digest", "user:pass")
    s.create("A", "/g-super", b"secret", acl=[(ALL, "digest", USER)])
    s.session("B")
    s.sync("B")
    s.read("B", "getData", "/g-super", expect=-102)
    s.auth("B", "digest", "super:wrong")
    s.read("B", "getData", "/g-super", expect=-102)
    s.auth("B", "digest", "super:admin")
    s.call("B", "whoAmI")
    s.read("B", "getData", "/g-super")
    s.get_acl("B", "/g-super")
    s.set_acl("B", "/g-super", [(READ, "auth", "")])
    s.get_acl("B", "/g-super", unordered=True)
    s.set("B", "/g-super", b"changed")
    s.set("B", "/zookeeper/config", b"")
    s.remove("B", "/g-super")
    s.end("A", "B")
