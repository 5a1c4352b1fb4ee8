package compat;

import static org.apache.zookeeper.KeeperException.Code.BADARGUMENTS;
import static org.apache.zookeeper.KeeperException.Code.BADVERSION;
import static org.apache.zookeeper.KeeperException.Code.NOCHILDRENFOREPHEMERALS;
import static org.apache.zookeeper.KeeperException.Code.NODEEXISTS;
import static org.apache.zookeeper.KeeperException.Code.NONODE;
import static org.apache.zookeeper.KeeperException.Code.NOTEMPTY;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Creating, reading, changing and deleting znodes with the synchronous calls. */
final class NodeCases {
    private NodeCases() {}

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void addTo(Harness harness) {
        harness.add("create-get-set-delete", NodeCases::life);
        harness.add("data-null-and-empty", NodeCases::nullAndEmpty);
        harness.add("data-large", NodeCases::large);
        harness.add("data-oversized", NodeCases::oversized);
        harness.add("create-with-stat", NodeCases::createWithStat);
        harness.add("create-errors", NodeCases::createErrors);
        harness.add("create-sequential", NodeCases::sequential);
        harness.add("create-ephemeral", NodeCases::ephemeral);
        harness.add("create-container", NodeCases::container);
        harness.add("container-removed", NodeCases::containerRemoved);
        harness.add("create-ttl", NodeCases::ttl);
        harness.add("ttl-removed", NodeCases::ttlRemoved);
        harness.add("versions", NodeCases::versions);
        harness.add("stat-fields", NodeCases::statFields);
        harness.add("delete-errors", NodeCases::deleteErrors);
        harness.add("paths-unicode", NodeCases::unicode);
        harness.add("paths-refused", NodeCases::refusedPaths);
        harness.add("children", NodeCases::children);
        harness.add("children-large-list", NodeCases::largeList);
        harness.add("all-children-number", NodeCases::allChildrenNumber);
        harness.add("ephemerals-list", NodeCases::ephemerals);
        harness.add("delete-recursive", NodeCases::deleteRecursive);
    }

    private static void life(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.path("a");
        Check.same(path, zk.create(path, bytes("1"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Check.same(bytes("1"), zk.getData(path, false, null));
        Stat stat = zk.setData(path, bytes("22"), 0);
        Check.same(1, stat.getVersion());
        Check.same(2, stat.getDataLength());
        Check.same(stat, zk.exists(path, false));
        zk.delete(path, 1);
        Check.same(null, zk.exists(path, false));
        Check.fails(NONODE, () -> zk.getData(path, false, null));
        Check.fails(NONODE, () -> zk.setData(path, null, -1));
    }

    private static void nullAndEmpty(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String empty = zk.create(world.path("empty"), new byte[0], OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        String none = zk.create(world.path("none"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.same(new byte[0], zk.getData(empty, false, null));
        Check.same(null, zk.getData(none, false, null));
        Check.same(0, zk.exists(none, false).getDataLength());
        zk.setData(empty, null, -1);
        zk.setData(none, new byte[0], -1);
        Check.same(null, zk.getData(empty, false, null));
        Check.same(new byte[0], zk.getData(none, false, null));
    }

    private static void large(World world) throws Exception {
        byte[] data = new byte[1_000_000];
        for (int i = 0; i < data.length; i++) {
            data[i] = (byte) (i * 31 + i / 256);
        }
        String path = world.zk().create(world.path("large"), data, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.same(data, world.zk().getData(path, false, null));
        data[0] = 99;
        world.zk().setData(path, data, 0);
        ZooKeeper other = world.open();
        other.sync(path);
        Check.same(data, other.getData(path, false, null));
    }

    /** Apache ZooKeeper hangs up; a server may also answer BADARGUMENTS. Either way the session goes on. */
    private static void oversized(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, World.SESSION_TIMEOUT_MS, events);
        long session = zk.getSessionId();
        try {
            zk.create(world.path("huge"), new byte[1_100_000], OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            throw new AssertionError("a node over jute.maxbuffer was created");
        } catch (KeeperException error) {
            Check.that(error.code() == KeeperException.Code.CONNECTIONLOSS || error.code() == BADARGUMENTS, "got " + error);
        }
        Check.eventually("the session is usable", () -> {
            try {
                return zk.exists(world.path("huge"), false) == null;
            } catch (KeeperException.ConnectionLossException again) {
                return false;
            }
        });
        Check.same(session, zk.getSessionId());
    }

    private static void createWithStat(World world) throws Exception {
        ZooKeeper zk = world.zk();
        for (CreateMode mode : new CreateMode[] {CreateMode.PERSISTENT, CreateMode.EPHEMERAL, CreateMode.PERSISTENT_SEQUENTIAL,
            CreateMode.EPHEMERAL_SEQUENTIAL, CreateMode.CONTAINER}) {
            Stat stat = new Stat();
            String path = zk.create(world.path(mode + "-"), bytes("xyz"), OPEN_ACL_UNSAFE, mode, stat);
            Check.same(3, stat.getDataLength());
            Check.same(mode.isEphemeral() ? zk.getSessionId() : 0L, stat.getEphemeralOwner());
            Check.same(stat, zk.exists(path, false));
            Check.same(stat.getCzxid(), stat.getMzxid());
            Check.same(stat.getCzxid(), stat.getPzxid());
            Check.same(stat.getCtime(), stat.getMtime());
        }
    }

    private static void createErrors(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String node = world.node("a", "");
        Check.same(node, Check.fails(NODEEXISTS, () -> zk.create(node, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)).getPath());
        Check.fails(NODEEXISTS, () -> zk.create(node, null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL, new Stat()));
        Check.fails(NONODE, () -> zk.create(world.path("b/c"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Check.fails(NODEEXISTS, () -> zk.create("/", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Check.fails(NOCHILDRENFOREPHEMERALS, () -> zk.create(world.path("e/x"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
    }

    private static void sequential(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String first = zk.create(world.path("s-"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
        Check.same(world.path("s-0000000000"), first);
        Check.same(world.path("e-0000000001"), zk.create(world.path("e-"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL));
        zk.delete(first, -1);
        world.node("plain", "");
        Check.same(world.path("0000000003"), zk.create(world.root + "/", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
        Check.same(world.path("s-0000000004"), zk.create(world.path("s-"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
    }

    private static void ephemeral(World world) throws Exception {
        ZooKeeper owner = world.open();
        String path = owner.create(world.path("e"), bytes("mine"), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        world.zk().sync(path);
        Check.same(owner.getSessionId(), world.zk().exists(path, false).getEphemeralOwner());
        owner.close();
        world.zk().sync(path);
        Check.same(null, world.zk().exists(path, false));
    }

    private static void container(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = zk.create(world.path("c"), bytes("c"), OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        Check.same(0L, zk.exists(path, false).getEphemeralOwner());
        String child = zk.create(path + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.fails(NOTEMPTY, () -> {
            zk.delete(path, -1);
            return null;
        });
        zk.delete(child, -1);
    }

    private static void containerRemoved(World world) throws Exception {
        World.controlAddress(); // whose server looks for them twice a second
        ZooKeeper zk = world.zk();
        String unused = zk.create(world.path("unused"), null, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        String used = zk.create(world.path("used"), null, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        String busy = zk.create(world.path("busy"), null, OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        zk.create(busy + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete(zk.create(used + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), -1);
        Check.eventually("the empty container is removed", () -> zk.exists(used, false) == null);
        Check.that(zk.exists(busy, false) != null, "a container with a child was removed");
        Check.that(zk.exists(unused, false) != null, "a container that never had a child was removed");
    }

    private static String createTtl(World world, String name, CreateMode mode, long ttlMs) throws Exception {
        try {
            return world.zk().create(world.path(name), bytes("t"), OPEN_ACL_UNSAFE, mode, new Stat(), ttlMs);
        } catch (KeeperException.UnimplementedException off) {
            throw new Harness.Skip("the server has no zookeeper.extendedTypesEnabled");
        }
    }

    private static void ttl(World world) throws Exception {
        String path = createTtl(world, "t", CreateMode.PERSISTENT_WITH_TTL, 600_000);
        Stat stat = world.zk().exists(path, false);
        Check.same(0L, stat.getEphemeralOwner());
        Check.same(world.path("s-0000000001"), createTtl(world, "s-", CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, 600_000));
        world.zk().create(path + "/child", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void ttlRemoved(World world) throws Exception {
        World.controlAddress();
        String brief = createTtl(world, "brief", CreateMode.PERSISTENT_WITH_TTL, 100);
        String parent = createTtl(world, "parent", CreateMode.PERSISTENT_WITH_TTL, 100);
        world.zk().create(parent + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.eventually("the node is removed", () -> world.zk().exists(brief, false) == null);
        Check.that(world.zk().exists(parent, false) != null, "a node with a child was removed");
    }

    private static void versions(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("v", "0");
        Check.fails(BADVERSION, () -> zk.setData(path, bytes("x"), 1));
        for (int version = 0; version < 5; version++) {
            Check.same(version + 1, zk.setData(path, bytes("x" + version), version).getVersion());
        }
        Check.fails(BADVERSION, () -> {
            zk.delete(path, 4);
            return null;
        });
        Check.same(6, zk.setData(path, bytes("any"), -1).getVersion());
        zk.delete(path, 6);
    }

    private static void statFields(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("n", "abc");
        Stat created = zk.exists(path, false);
        zk.create(path + "/c1", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(path + "/c2", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete(path + "/c1", -1);
        Stat changed = zk.exists(path, false);
        Check.same(3, changed.getCversion());
        Check.same(1, changed.getNumChildren());
        Check.that(changed.getPzxid() > created.getPzxid() + 2, "pzxid follows creation and deletion of children");
        Check.same(created.getMzxid(), changed.getMzxid());
        Check.same(created.getCzxid(), changed.getCzxid());
        zk.setACL(path, OPEN_ACL_UNSAFE, 0);
        Stat secured = zk.exists(path, false);
        Check.same(1, secured.getAversion());
        Check.same(created.getMtime(), secured.getMtime());
        Stat set = zk.setData(path, bytes("longer"), -1);
        Check.same(6, set.getDataLength());
        Check.that(set.getMzxid() > changed.getPzxid(), "mzxid is that of the change");
        Check.same(changed.getPzxid(), set.getPzxid());
        Check.that(Math.abs(set.getMtime() - System.currentTimeMillis()) < 60_000, "mtime is now");
    }

    private static void deleteErrors(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("full", "");
        world.node("full/c", "");
        Check.fails(NOTEMPTY, () -> {
            zk.delete(path, -1);
            return null;
        });
        for (String gone : new String[] {world.path("none"), world.path("none/x")}) {
            Check.fails(NONODE, () -> {
                zk.delete(gone, -1);
                return null;
            });
        }
        for (String builtIn : new String[] {"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}) {
            Check.fails(BADARGUMENTS, () -> {
                zk.delete(builtIn, -1);
                return null;
            });
        }
    }

    private static void unicode(World world) throws Exception {
        for (String name : new String[] {"grüß", "日本", "a b", ".hidden", "...", "\u00a0", "a:b", "%2f", "x\uffef"}) {
            String path = world.zk().create(world.path(name), bytes(name), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            Check.same(world.path(name), path);
            Check.same(bytes(name), world.zk().getData(path, false, null));
        }
        Check.same(9, world.zk().getChildren(world.root, false).size());
    }

    private static void refusedPaths(World world) throws Exception {
        for (String bad : new String[] {"", "relative", "/a/", "//", "/./a", "/a/..", "/a\u0000b", "/a\u0001", "/\ue000"}) {
            try {
                world.zk().create(bad, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                throw new AssertionError("created " + bad);
            } catch (IllegalArgumentException byTheClient) {
                // As it should be.
            }
        }
    }

    private static void children(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Check.same(List.of(), zk.getChildren(world.root, false));
        for (String name : new String[] {"b", "a", "c"}) {
            world.node(name, "");
        }
        Stat stat = new Stat();
        Check.same(List.of("a", "b", "c"), List.copyOf(new TreeSet<>(zk.getChildren(world.root, false, stat))));
        Check.same(3, stat.getNumChildren());
        Check.same(stat, zk.exists(world.root, false));
        Check.fails(NONODE, () -> zk.getChildren(world.path("none"), false));
        Check.fails(NONODE, () -> zk.getChildren(world.path("none"), false, new Stat()));
    }

    /** The reply is just under the megabyte that the client takes. */
    private static void largeList(World world) throws Exception {
        int count = 20_000;
        AtomicInteger failures = new AtomicInteger();
        CountDownLatch done = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            String path = world.path(String.format("child-with-a-long-name-for-a-long-list-%05d", i));
            world.zk().create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, ctx, name) -> {
                failures.addAndGet(rc == 0 ? 0 : 1);
                done.countDown();
            }, null);
        }
        done.await();
        Check.same(0, failures.get());
        Check.same(count, new TreeSet<>(world.zk().getChildren(world.root, false)).size());
        Check.same(count, world.zk().getAllChildrenNumber(world.root));
        Check.same(count, world.zk().exists(world.root, false).getNumChildren());
    }

    private static void allChildrenNumber(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Check.same(0, zk.getAllChildrenNumber(world.root));
        for (String name : new String[] {"a", "a/b", "a/b/c", "ab"}) {
            world.node(name, "");
        }
        Check.same(4, zk.getAllChildrenNumber(world.root));
        Check.same(2, zk.getAllChildrenNumber(world.path("a")));
        Check.that(zk.getAllChildrenNumber("/") >= 8, "the root counts everything");
        Check.fails(NONODE, () -> zk.getAllChildrenNumber(world.path("none")));
    }

    private static void ephemerals(World world) throws Exception {
        ZooKeeper zk = world.open();
        List<String> mine = new ArrayList<>();
        for (String name : new String[] {"x", "x1", "y"}) {
            mine.add(zk.create(world.path(name), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
        }
        ZooKeeper other = world.open();
        other.create(world.path("other"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Check.same(new TreeSet<>(mine), new TreeSet<>(zk.getEphemerals()));
        Check.same(new TreeSet<>(mine.subList(0, 2)), new TreeSet<>(zk.getEphemerals(world.path("x"))));
        Check.same(List.of(), zk.getEphemerals("/none"));
        Check.same(List.of(world.path("other")), other.getEphemerals());
    }

    private static void deleteRecursive(World world) throws Exception {
        world.node("a", "");
        world.node("a/b", "");
        world.node("a/b/c", "");
        org.apache.zookeeper.ZKUtil.deleteRecursive(world.zk(), world.path("a"));
        Check.same(null, world.zk().exists(world.path("a"), false));
    }
}
