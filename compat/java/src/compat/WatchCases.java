package compat;

import static org.apache.zookeeper.Watcher.Event.EventType.NodeChildrenChanged;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeCreated;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeDataChanged;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeDeleted;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Watches of all kinds, their order, their removal and their return after a lost connection. */
final class WatchCases {
    private WatchCases() {}

    static void addTo(Harness harness) {
        harness.add("watch-exists", WatchCases::exists);
        harness.add("watch-data", WatchCases::data);
        harness.add("watch-children", WatchCases::children);
        harness.add("watch-default-watcher", WatchCases::defaultWatcher);
        harness.add("watch-before-own-reply", WatchCases::beforeOwnReply);
        harness.add("watch-zxid", WatchCases::zxid);
        harness.add("watch-same-watcher-once", WatchCases::sameWatcher);
        harness.add("watch-persistent", WatchCases::persistent);
        harness.add("watch-recursive", WatchCases::recursive);
        harness.add("watch-on-session-close", WatchCases::sessionClose);
        harness.add("watch-on-multi", WatchCases::multi);
        harness.add("watch-remove", WatchCases::remove);
        harness.add("watch-remove-all", WatchCases::removeAll);
        harness.add("watch-remove-errors", WatchCases::removeErrors);
        harness.add("watch-survives-reconnect", WatchCases::reconnect);
        harness.add("watch-missed-events", WatchCases::missed);
        harness.add("watch-persistent-reconnect", WatchCases::persistentReconnect);
        harness.add("watch-many", WatchCases::many);
        harness.add("watch-many-reconnect", WatchCases::manyReconnect);
        harness.add("watch-every-change-seen", WatchCases::everyChange);
    }

    private static void exists(World world) throws Exception {
        ZooKeeper zk = world.zk();
        ZooKeeper other = world.open();
        Events events = new Events();
        String path = world.path("a");
        Check.same(null, zk.exists(path, events));
        other.create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        events.expect(NodeCreated, path);
        zk.exists(path, events);
        other.setData(path, null, -1);
        events.expect(NodeDataChanged, path);
        zk.exists(path, events);
        other.create(path + "/c", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.delete(path + "/c", -1);
        other.delete(path, -1);
        events.expect(NodeDeleted, path);
        zk.sync(path);
        events.expectNone();
    }

    private static void data(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Events events = new Events();
        String path = world.node("a", "");
        zk.getData(path, events, null);
        zk.setData(path, null, -1);
        zk.setData(path, null, -1);
        events.expect(NodeDataChanged, path);
        zk.getData(path, events, null);
        zk.setACL(path, OPEN_ACL_UNSAFE, -1);
        zk.delete(path, -1);
        events.expect(NodeDeleted, path);
        Check.fails(KeeperException.Code.NONODE, () -> zk.getData(path, events, null));
        world.node("a", "");
        zk.sync(path);
        events.expectNone();
    }

    private static void children(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Events events = new Events();
        String path = world.node("a", "");
        zk.getChildren(path, events);
        world.node("a/x", "");
        events.expect(NodeChildrenChanged, path);
        zk.getChildren(path, events, new Stat());
        zk.setData(path, null, -1);
        zk.setData(path + "/x", null, -1);
        zk.delete(path + "/x", -1);
        events.expect(NodeChildrenChanged, path);
        zk.getChildren(path, events);
        zk.delete(path, -1);
        events.expect(NodeDeleted, path);
        zk.sync(path);
        events.expectNone();
    }

    private static void defaultWatcher(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, World.SESSION_TIMEOUT_MS, events);
        String path = world.node("a", "");
        zk.exists(path, true);
        zk.getData(path, true, null);
        zk.getChildren(path, true);
        zk.setData(path, null, -1);
        events.expect(NodeDataChanged, path);
        world.node("a/b", "");
        events.expect(NodeChildrenChanged, path);
        Events second = new Events();
        zk.register(second);
        zk.exists(path, true);
        zk.setData(path, null, -1);
        second.expect(NodeDataChanged, path);
        events.expectNone();
    }

    /** Events and callbacks share one queue in the client, so their order there is the order on the wire. */
    private static void beforeOwnReply(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(1);
        for (int i = 0; i < 50; i++) {
            int round = i;
            zk.getData(path, event -> order.add("event " + round), (rc, p, ctx, data, stat) -> order.add("read " + round), null);
            zk.setData(path, null, -1, (rc, p, ctx, stat) -> order.add("write " + round), null);
        }
        zk.sync(path, (rc, p, ctx) -> done.countDown(), null);
        done.await();
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            expected.addAll(List.of("read " + i, "event " + i, "write " + i));
        }
        Check.same(expected, List.copyOf(order));
    }

    private static void zxid(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Events events = new Events();
        String path = world.node("a", "");
        zk.getData(path, events, null);
        Stat stat = world.open().setData(path, null, -1);
        WatchedEvent event = events.expect(NodeDataChanged, path);
        Check.same(stat.getMzxid(), event.getZxid());
    }

    private static void sameWatcher(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Events events = new Events();
        String path = world.node("a", "");
        zk.exists(path, events);
        zk.getData(path, events, null);
        zk.getChildren(path, events);
        zk.delete(path, -1);
        events.expect(NodeDeleted, path);
        zk.sync(path);
        events.expectNone();
    }

    private static void persistent(World world) throws Exception {
        ZooKeeper zk = world.zk();
        ZooKeeper other = world.open();
        Events events = new Events();
        String path = world.path("a");
        zk.addWatch(path, events, AddWatchMode.PERSISTENT);
        for (int round = 0; round < 3; round++) {
            other.create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            events.expect(NodeCreated, path);
            other.setData(path, null, -1);
            events.expect(NodeDataChanged, path);
            other.create(path + "/c", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            events.expect(NodeChildrenChanged, path);
            other.create(path + "/c/d", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            other.delete(path + "/c/d", -1);
            other.delete(path + "/c", -1);
            events.expect(NodeChildrenChanged, path);
            other.delete(path, -1);
            events.expect(NodeDeleted, path);
        }
        zk.sync(path);
        events.expectNone();
    }

    private static void recursive(World world) throws Exception {
        ZooKeeper zk = world.zk();
        ZooKeeper other = world.open();
        Events events = new Events();
        String path = world.node("a", "");
        zk.addWatch(path, events, AddWatchMode.PERSISTENT_RECURSIVE);
        other.create(path + "/b", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        events.expect(NodeCreated, path + "/b");
        other.create(path + "/b/c", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        events.expect(NodeCreated, path + "/b/c");
        other.setData(path + "/b/c", null, -1);
        events.expect(NodeDataChanged, path + "/b/c");
        other.setData(path, null, -1);
        events.expect(NodeDataChanged, path);
        other.create(world.path("ab"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.delete(path + "/b/c", -1);
        events.expect(NodeDeleted, path + "/b/c");
        other.delete(path + "/b", -1);
        events.expect(NodeDeleted, path + "/b");
        other.delete(path, -1);
        events.expect(NodeDeleted, path);
        zk.sync(path);
        events.expectNone();
    }

    private static void sessionClose(World world) throws Exception {
        ZooKeeper owner = world.open();
        Set<String> paths = new HashSet<>();
        Events events = new Events();
        for (int i = 0; i < 20; i++) {
            String path = owner.create(world.path("e" + i), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            paths.add(path);
        }
        world.zk().sync(world.root);
        for (String path : paths) {
            world.zk().exists(path, events);
        }
        Events parent = new Events();
        world.zk().getChildren(world.root, parent);
        owner.close();
        for (int i = 0; i < 20; i++) {
            WatchedEvent event = events.next();
            Check.same(NodeDeleted, event.getType());
            Check.that(paths.remove(event.getPath()), "an event for " + event.getPath());
        }
        parent.expect(NodeChildrenChanged, world.root);
    }

    private static void multi(World world) throws Exception {
        Events events = new Events();
        world.node("old", "");
        world.zk().addWatch(world.root, events, AddWatchMode.PERSISTENT_RECURSIVE);
        world.open().transaction()
            .create(world.path("new"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
            .setData(world.path("old"), null, -1)
            .delete(world.path("old"), -1)
            .setData(world.path("new"), null, 0)
            .commit();
        long zxid = events.expect(NodeCreated, world.path("new")).getZxid();
        Check.same(zxid, events.expect(NodeDataChanged, world.path("old")).getZxid());
        Check.same(zxid, events.expect(NodeDeleted, world.path("old")).getZxid());
        Check.same(zxid, events.expect(NodeDataChanged, world.path("new")).getZxid());
    }

    private static void remove(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        record Kind(WatcherType type, EventType removed) {}
        for (Kind kind : List.of(new Kind(WatcherType.Data, EventType.DataWatchRemoved), new Kind(WatcherType.Children, EventType.ChildWatchRemoved))) {
            Events one = new Events();
            Events two = new Events();
            for (Events each : List.of(one, two)) {
                if (kind.type() == WatcherType.Data) {
                    zk.getData(path, each, null);
                } else {
                    zk.getChildren(path, each);
                }
            }
            zk.removeWatches(path, one, kind.type(), false);
            Check.same(kind.removed(), one.next().getType());
            zk.setData(path, null, -1);
            zk.delete(zk.create(path + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), -1);
            Check.same(kind.type() == WatcherType.Data ? NodeDataChanged : NodeChildrenChanged, two.next().getType());
            one.expectNone();
        }
        for (AddWatchMode mode : AddWatchMode.values()) {
            Events events = new Events();
            zk.addWatch(path, events, mode);
            zk.removeWatches(path, events, mode == AddWatchMode.PERSISTENT ? WatcherType.Persistent : WatcherType.PersistentRecursive, false);
            Check.same(EventType.PersistentWatchRemoved, events.next().getType());
            zk.setData(path, null, -1);
            zk.sync(path);
            events.expectNone();
        }
    }

    private static void removeAll(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        Events data = new Events();
        Events children = new Events();
        Events persistent = new Events();
        zk.getData(path, data, null);
        zk.getChildren(path, children);
        zk.addWatch(path, persistent, AddWatchMode.PERSISTENT);
        zk.removeAllWatches(path, WatcherType.Data, false);
        Check.same(EventType.DataWatchRemoved, data.next().getType());
        zk.setData(path, null, -1);
        persistent.expect(NodeDataChanged, path);
        zk.removeAllWatches(path, WatcherType.Any, false);
        Check.same(EventType.ChildWatchRemoved, children.next().getType());
        Check.same(EventType.PersistentWatchRemoved, persistent.next().getType());
        zk.setData(path, null, -1);
        world.node("a/b", "");
        zk.sync(path);
        for (Events each : List.of(data, children, persistent)) {
            each.expectNone();
        }
    }

    private static void removeErrors(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        for (WatcherType type : WatcherType.values()) {
            Check.fails(KeeperException.Code.NOWATCHER, () -> {
                zk.removeWatches(path, new Events(), type, false);
                return null;
            });
            Check.fails(KeeperException.Code.NOWATCHER, () -> {
                zk.removeAllWatches(path, type, false);
                return null;
            });
        }
        Events events = new Events();
        zk.exists(path, events);
        Check.fails(KeeperException.Code.NOWATCHER, () -> {
            zk.removeWatches(path, events, WatcherType.Children, false);
            return null;
        });
        zk.setData(path, null, -1);
        events.expect(NodeDataChanged, path);
    }

    /** A handle through a proxy, and what its default watcher hears. */
    private record Link(Proxy proxy, ZooKeeper zk, Events states) {
        static Link open(World world) throws Exception {
            Proxy proxy = world.proxy();
            Events states = new Events();
            return new Link(proxy, world.open(proxy.address(), World.SESSION_TIMEOUT_MS, states), states);
        }

        void lose() throws Exception {
            proxy.refuse();
            states.expect(KeeperState.Disconnected);
        }

        void regain() throws Exception {
            proxy.welcome();
            states.expect(KeeperState.SyncConnected);
        }
    }

    private static void skipStates(Events events) throws Exception {
        events.expect(KeeperState.Disconnected);
        events.expect(KeeperState.SyncConnected);
    }

    private static void reconnect(World world) throws Exception {
        Link link = Link.open(world);
        String path = world.node("a", "");
        Events data = new Events();
        Events children = new Events();
        Events exist = new Events();
        link.zk().getData(path, data, null);
        link.zk().getChildren(path, children);
        link.zk().exists(world.path("late"), exist);
        long session = link.zk().getSessionId();
        link.lose();
        link.regain();
        Check.same(session, link.zk().getSessionId());
        for (Events each : List.of(data, children, exist)) {
            skipStates(each);
            each.expectNone();
        }
        world.zk().setData(path, null, -1);
        data.expect(NodeDataChanged, path);
        world.node("a/b", "");
        children.expect(NodeChildrenChanged, path);
        world.node("late", "");
        exist.expect(NodeCreated, world.path("late"));
    }

    private static void missed(World world) throws Exception {
        Link link = Link.open(world);
        String[] names = {"changed", "deleted", "kids", "gone-exists", "untouched"};
        for (String name : names) {
            world.node(name, "");
        }
        link.zk().sync(world.root);
        Events changed = new Events();
        Events deleted = new Events();
        Events kids = new Events();
        Events created = new Events();
        Events untouched = new Events();
        link.zk().getData(world.path("changed"), changed, null);
        link.zk().getData(world.path("deleted"), deleted, null);
        link.zk().getChildren(world.path("kids"), kids);
        link.zk().exists(world.path("new"), created);
        link.zk().getData(world.path("untouched"), untouched, null);
        link.lose();
        world.zk().setData(world.path("changed"), null, -1);
        world.zk().delete(world.path("deleted"), -1);
        world.node("kids/k", "");
        world.node("new", "");
        link.regain();
        for (Events each : List.of(changed, deleted, kids, created, untouched)) {
            skipStates(each);
        }
        changed.expect(NodeDataChanged, world.path("changed"));
        deleted.expect(NodeDeleted, world.path("deleted"));
        kids.expect(NodeChildrenChanged, world.path("kids"));
        created.expect(NodeCreated, world.path("new"));
        link.zk().sync(world.root);
        untouched.expectNone();
    }

    private static void persistentReconnect(World world) throws Exception {
        Link link = Link.open(world);
        String path = world.node("a", "");
        Events persistent = new Events();
        Events recursive = new Events();
        link.zk().addWatch(path, persistent, AddWatchMode.PERSISTENT);
        link.zk().addWatch(path, recursive, AddWatchMode.PERSISTENT_RECURSIVE);
        link.lose();
        link.regain();
        skipStates(persistent);
        skipStates(recursive);
        // The states are delivered before the watches are set again on the server; a reply proves they are.
        link.zk().exists(path, false);
        for (int round = 0; round < 2; round++) {
            world.zk().setData(path, null, -1);
            persistent.expect(NodeDataChanged, path);
            recursive.expect(NodeDataChanged, path);
        }
        world.node("a/b", "");
        persistent.expect(NodeChildrenChanged, path);
        recursive.expect(NodeCreated, path + "/b");
    }

    private static void many(World world) throws Exception {
        int count = 2000;
        Events events = new Events();
        ZooKeeper zk = world.zk();
        for (int i = 0; i < count; i++) {
            zk.exists(world.path("n" + i), events, null, null);
        }
        CountDownLatch done = new CountDownLatch(count);
        ZooKeeper other = world.open();
        zk.sync(world.root);
        for (int i = 0; i < count; i++) {
            other.create(world.path("n" + i), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL, (rc, p, ctx, name) -> done.countDown(), null);
        }
        for (int i = 0; i < count; i++) {
            events.expect(NodeCreated, world.path("n" + i));
        }
        done.await();
    }

    /** More watches than fit into one setWatches packet of the client (128 KiB of paths). */
    private static void manyReconnect(World world) throws Exception {
        Link link = Link.open(world);
        int count = 3000;
        Events events = new Events();
        String name = world.path("a-path-long-enough-that-three-thousand-fill-several-packets-");
        for (int i = 0; i < count; i++) {
            link.zk().exists(name + i, events, (rc, p, ctx, stat) -> { }, null);
        }
        link.zk().sync(world.root);
        link.lose();
        link.regain();
        link.zk().sync(world.root);
        for (int i = 0; i < count; i += 100) {
            world.zk().create(name + i, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        Set<String> seen = new HashSet<>();
        while (seen.size() < count / 100) {
            WatchedEvent event = events.next();
            if (event.getType() != EventType.None) {
                Check.same(NodeCreated, event.getType());
                Check.that(seen.add(event.getPath()), "two events for " + event.getPath());
            }
        }
    }

    /** Whoever reads after each event sees every last value, however fast it changes. */
    private static void everyChange(World world) throws Exception {
        String path = world.node("a", "0");
        ZooKeeper reader = world.open();
        int last = 500;
        CountDownLatch done = new CountDownLatch(1);
        List<Integer> versions = Collections.synchronizedList(new ArrayList<>());
        Watcher again = new Watcher() {
            @Override
            public void process(WatchedEvent event) {
                if (event.getType() == NodeDataChanged) {
                    reader.getData(path, this, (rc, p, ctx, data, stat) -> {
                        versions.add(stat.getVersion());
                        if (stat.getVersion() == last) {
                            done.countDown();
                        }
                    }, null);
                }
            }
        };
        reader.getData(path, again, null);
        for (int i = 0; i < last; i++) {
            world.zk().setData(path, null, i);
        }
        Check.that(done.await(Check.PATIENCE_MS, java.util.concurrent.TimeUnit.MILLISECONDS), "the last change is seen");
        for (int i = 1; i < versions.size(); i++) {
            Check.that(versions.get(i) > versions.get(i - 1), "each event shows a newer value");
        }
    }
}
