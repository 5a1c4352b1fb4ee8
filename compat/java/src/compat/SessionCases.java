package compat;

import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooKeeper;

/** Sessions: opening, losing and regaining connections, re-attaching, expiring, closing, chroot. */
final class SessionCases {
    private SessionCases() {}

    static void addTo(Harness harness) {
        harness.add("session-open-close", SessionCases::openClose);
        harness.add("session-timeout-negotiated", SessionCases::timeout);
        harness.add("session-reconnect", SessionCases::reconnect);
        harness.add("session-reconnect-often", SessionCases::reconnectOften);
        harness.add("session-reattach", SessionCases::reattach);
        harness.add("session-takeover", SessionCases::takeover);
        harness.add("session-wrong-password", SessionCases::wrongPassword);
        harness.add("session-closed-elsewhere", SessionCases::closedElsewhere);
        harness.add("session-expires", SessionCases::expires);
        harness.add("session-idle-lives", SessionCases::idle);
        harness.add("session-read-only-flag", SessionCases::readOnlyFlag);
        harness.add("session-many", SessionCases::many);
        harness.add("session-pending-at-loss", SessionCases::pendingAtLoss);
        harness.add("chroot", SessionCases::chroot);
        harness.add("chroot-missing", SessionCases::chrootMissing);
        harness.add("chroot-watches", SessionCases::chrootWatches);
        harness.add("restart-keeps-everything", SessionCases::restart);
    }

    private static void openClose(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, World.SESSION_TIMEOUT_MS, events);
        Check.that(zk.getState().isConnected() && zk.getSessionId() != 0, "connected with a session");
        Check.same(16, zk.getSessionPasswd().length);
        Check.that(zk.toString().contains(Long.toHexString(zk.getSessionId())), "it can be printed");
        zk.close();
        events.expect(KeeperState.Closed);
        Check.same(ZooKeeper.States.CLOSED, zk.getState());
        Check.fails(Code.SESSIONEXPIRED, () -> zk.exists("/", false));
        zk.close();
    }

    private static void timeout(World world) throws Exception {
        ZooKeeper brief = world.open(world.address, 500, new Events());
        ZooKeeper huge = world.open(world.address, Integer.MAX_VALUE, new Events());
        ZooKeeper usual = world.open(world.address, 10_000, new Events());
        Check.same(10_000, usual.getSessionTimeout());
        Check.that(brief.getSessionTimeout() > 500 && brief.getSessionTimeout() <= 10_000, "raised to " + brief.getSessionTimeout());
        Check.that(huge.getSessionTimeout() >= 10_000 && huge.getSessionTimeout() < Integer.MAX_VALUE, "lowered to " + huge.getSessionTimeout());
    }

    private static void reconnect(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events events = new Events();
        ZooKeeper zk = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, events);
        String path = zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        long session = zk.getSessionId();
        proxy.cut();
        events.expect(KeeperState.Disconnected);
        events.expect(KeeperState.SyncConnected);
        Check.same(session, zk.getSessionId());
        Check.same(session, zk.exists(path, false).getEphemeralOwner());
        events.expectNone();
    }

    private static void reconnectOften(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events events = new Events();
        ZooKeeper zk = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, events);
        String path = zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        for (int round = 0; round < 5; round++) {
            proxy.cut();
            events.expect(KeeperState.Disconnected);
            events.expect(KeeperState.SyncConnected);
            zk.setData(path, null, round);
        }
    }

    private static void reattach(World world) throws Exception {
        Proxy proxy = world.proxy();
        ZooKeeper first = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, new Events());
        String path = first.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        proxy.refuse();
        Events events = new Events();
        ZooKeeper second = world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events, first.getSessionId(), first.getSessionPasswd()));
        events.expect(KeeperState.SyncConnected);
        Check.same(first.getSessionId(), second.getSessionId());
        Check.same(first.getSessionPasswd(), second.getSessionPasswd());
        Check.same(List.of(path), second.getEphemerals(world.root));
        second.close();
        world.zk().sync(path);
        Check.same(null, world.zk().exists(path, false));
    }

    /** The newest connection has the session; the old one is cut, and its handle takes it back in turn. */
    private static void takeover(World world) throws Exception {
        Events firstEvents = new Events();
        ZooKeeper first = world.open(world.address, World.SESSION_TIMEOUT_MS, firstEvents);
        Events events = new Events();
        ZooKeeper second = world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events, first.getSessionId(), first.getSessionPasswd()));
        events.expect(KeeperState.SyncConnected);
        firstEvents.expect(KeeperState.Disconnected);
        Check.same(first.getSessionId(), second.getSessionId());
        second.close();
        firstEvents.await(KeeperState.Expired);
        Check.same(ZooKeeper.States.CLOSED, first.getState());
    }

    private static void wrongPassword(World world) throws Exception {
        ZooKeeper owner = world.open();
        String path = owner.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        byte[] wrong = owner.getSessionPasswd();
        wrong = wrong.clone();
        wrong[3] ^= 1;
        Events events = new Events();
        ZooKeeper thief = world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events, owner.getSessionId(), wrong));
        events.expect(KeeperState.Expired);
        Check.same(ZooKeeper.States.CLOSED, thief.getState());
        Check.eventually("the owner goes on", () -> {
            try {
                return owner.exists(path, false) != null;
            } catch (KeeperException.ConnectionLossException again) {
                return false;
            }
        });
    }

    private static void closedElsewhere(World world) throws Exception {
        ZooKeeper first = world.open();
        long session = first.getSessionId();
        byte[] password = first.getSessionPasswd();
        first.close();
        Events events = new Events();
        ZooKeeper late = world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events, session, password));
        events.expect(KeeperState.Expired);
        Check.fails(Code.SESSIONEXPIRED, () -> late.exists("/", false));
    }

    private static void expires(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events events = new Events();
        ZooKeeper zk = world.open(proxy.address(), 1000, events);
        Events watch = new Events();
        String path = zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        world.zk().sync(path);
        Check.that(world.zk().exists(path, watch) != null, "the ephemeral is there");
        proxy.refuse();
        long lost = System.nanoTime();
        events.expect(KeeperState.Disconnected);
        watch.expect(EventType.NodeDeleted, path);
        long lived = (System.nanoTime() - lost) / 1_000_000;
        // Not earlier than its timeout after the last request, which came a moment before the cut.
        Check.that(lived > zk.getSessionTimeout() * 3 / 4, "it expired after " + lived + " ms of " + zk.getSessionTimeout());
        proxy.welcome();
        events.await(KeeperState.Expired);
        Check.same(ZooKeeper.States.CLOSED, zk.getState());
        Check.fails(Code.SESSIONEXPIRED, () -> zk.exists("/", false));
    }

    /** Pings keep a session alive for several times its timeout. */
    private static void idle(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, 1000, events);
        String path = zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Thread.sleep(zk.getSessionTimeout() * 2L + 500);
        events.expectNone();
        Check.that(zk.exists(path, false) != null, "the ephemeral is there");
    }

    private static void readOnlyFlag(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events, true));
        events.expect(KeeperState.SyncConnected);
        Check.same(ZooKeeper.States.CONNECTED, zk.getState());
        zk.create(world.path("a"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void many(World world) throws Exception {
        int count = 100;
        List<ZooKeeper> handles = new ArrayList<>();
        List<Events> events = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            events.add(new Events());
            handles.add(world.keep(new ZooKeeper(world.address, World.SESSION_TIMEOUT_MS, events.get(i))));
        }
        for (int i = 0; i < count; i++) {
            events.get(i).expect(KeeperState.SyncConnected);
            handles.get(i).create(world.path("e" + i), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        }
        Check.same((long) count, handles.stream().mapToLong(ZooKeeper::getSessionId).distinct().count());
        Check.same(count, world.zk().getChildren(world.root, false).size());
        for (ZooKeeper handle : handles) {
            handle.close();
        }
        world.zk().sync(world.root);
        Check.same(0, world.zk().getChildren(world.root, false).size());
    }

    /** Whatever was in flight when the connection broke is reported lost, and later requests go through. */
    private static void pendingAtLoss(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events events = new Events();
        ZooKeeper zk = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, events);
        proxy.refuse();
        events.expect(KeeperState.Disconnected);
        AtomicReference<Integer> code = new AtomicReference<>();
        zk.exists("/", false, (rc, p, ctx, stat) -> code.set(rc), null);
        Check.eventually("the request fails", () -> code.get() != null);
        Check.same(Code.CONNECTIONLOSS.intValue(), code.get());
        proxy.welcome();
        events.await(KeeperState.SyncConnected);
        Check.that(zk.exists("/", false) != null, "it is back");
    }

    private static void chroot(World world) throws Exception {
        ZooKeeper zk = world.open(world.address + world.root, World.SESSION_TIMEOUT_MS, new Events());
        Check.same("/a", zk.create("/a", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Check.same("/a/s-0000000000", zk.create("/a/s-", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
        Check.same(List.of("a"), zk.getChildren("/", false));
        Check.that(world.zk().exists(world.path("a/s-0000000000"), false) != null, "it is below the chroot");
        Check.same(2, zk.getAllChildrenNumber("/"));
        Check.same(2, zk.transaction().create("/m", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT).check("/a", 0).commit().size());
        String path = Check.fails(Code.NONODE, () -> zk.getData("/none", false, null)).getPath();
        Check.same("/none", path);
        zk.delete("/a/s-0000000000", -1);
    }

    private static void chrootMissing(World world) throws Exception {
        ZooKeeper zk = world.open(world.address + world.path("none"), World.SESSION_TIMEOUT_MS, new Events());
        Check.fails(Code.NONODE, () -> zk.create("/a", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Check.fails(Code.NONODE, () -> zk.getChildren("/", false));
        world.node("none", "");
        zk.create("/a", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void chrootWatches(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events states = new Events();
        ZooKeeper zk = world.open(proxy.address() + world.root, World.SESSION_TIMEOUT_MS, states);
        Events events = new Events();
        zk.exists("/a", events);
        proxy.cut();
        states.expect(KeeperState.Disconnected);
        states.expect(KeeperState.SyncConnected);
        events.expect(KeeperState.Disconnected);
        events.expect(KeeperState.SyncConnected);
        world.node("a", "");
        events.expect(EventType.NodeCreated, "/a");
        Events children = new Events();
        zk.getChildren("/", children);
        world.node("b", "");
        children.expect(EventType.NodeChildrenChanged, "/");
    }

    /** kill -9 and start: every acknowledged write, every session and its ephemerals are there. */
    private static void restart(World world) throws Exception {
        World.controlAddress();
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, 30_000, events);
        long session = zk.getSessionId();
        String ephemeral = zk.create(world.path("e"), NodeCases.bytes("mine"), OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Events watch = new Events();
        zk.exists(world.path("late"), watch);
        for (int i = 0; i < 50; i++) {
            world.node("n" + i, "v" + i);
        }
        World.control("restart");
        events.expect(KeeperState.Disconnected);
        events.expect(KeeperState.SyncConnected);
        Check.same(session, zk.getSessionId());
        Check.same(NodeCases.bytes("mine"), zk.getData(ephemeral, false, null));
        for (int i = 0; i < 50; i++) {
            Check.same(NodeCases.bytes("v" + i), zk.getData(world.path("n" + i), false, null));
        }
        zk.create(world.path("late"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        watch.expect(KeeperState.Disconnected);
        watch.expect(KeeperState.SyncConnected);
        watch.expect(EventType.NodeCreated, world.path("late"));
    }
}
