package compat;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.data.Stat;

/** The framework below the recipes: builders, background calls, transactions, connection states. */
final class FrameworkCases {
    private FrameworkCases() {}

    static void addTo(Harness harness) {
        harness.add("framework-crud", FrameworkCases::crud);
        harness.add("framework-create-or-set", FrameworkCases::createOrSet);
        harness.add("framework-protected-create", FrameworkCases::protectedCreate);
        harness.add("framework-background", FrameworkCases::background);
        harness.add("framework-transaction", FrameworkCases::transaction);
        harness.add("framework-watches", FrameworkCases::watches);
        harness.add("framework-namespace", FrameworkCases::namespace);
        harness.add("framework-connection-states", FrameworkCases::states);
        harness.add("framework-session-lost", FrameworkCases::lost);
    }

    private static void crud(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().creatingParentsIfNeeded().forPath("/a/b/c", bytes("1"));
        Stat stat = new Stat();
        Check.same(bytes("1"), client.getData().storingStatIn(stat).forPath("/a/b/c"));
        Check.same(1, client.setData().withVersion(stat.getVersion()).forPath("/a/b/c", bytes("2")).getVersion());
        Check.same(List.of("c"), client.getChildren().forPath("/a/b"));
        Check.same(null, client.checkExists().forPath("/a/none"));
        client.create().creatingParentContainersIfNeeded().forPath("/container/x");
        client.delete().deletingChildrenIfNeeded().forPath("/a");
        Check.same(null, client.checkExists().forPath("/a"));
        client.delete().quietly().forPath("/a");
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void createOrSet(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().orSetData().forPath("/a", bytes("1"));
        client.create().orSetData().forPath("/a", bytes("2"));
        Check.same(bytes("2"), client.getData().forPath("/a"));
        client.create().idempotent().forPath("/b", bytes("x"));
        client.create().idempotent().forPath("/b", bytes("x"));
        client.delete().idempotent().forPath("/b");
        client.delete().idempotent().forPath("/b");
    }

    private static void protectedCreate(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        for (int i = 0; i < 3; i++) {
            String path = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/p-");
            Check.that(path.matches("/_c_[0-9a-f-]+-p-000000000" + i), path);
        }
    }

    private static void background(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        int count = 200;
        CountDownLatch done = new CountDownLatch(count);
        AtomicReference<String> problem = new AtomicReference<>();
        for (int i = 0; i < count; i++) {
            client.create().inBackground((c, event) -> {
                if (event.getResultCode() != KeeperException.Code.OK.intValue()) {
                    problem.set(event.toString());
                }
                done.countDown();
            }).forPath("/n" + i, bytes("" + i));
        }
        Check.that(done.await(Check.PATIENCE_MS, TimeUnit.MILLISECONDS), "all are answered");
        Check.same(null, problem.get());
        Check.same(count, client.getChildren().forPath("/").size());
    }

    private static void transaction(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        List<CuratorTransactionResult> results = client.transaction().forOperations(
            client.transactionOp().create().forPath("/a", bytes("1")),
            client.transactionOp().setData().withVersion(0).forPath("/a", bytes("2")),
            client.transactionOp().check().withVersion(1).forPath("/a"),
            client.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/a/s-"));
        // ZooKeeper's client does not take the chroot off the results of a multi.
        Check.same(world.path("a/s-0000000000"), results.get(3).getResultPath());
        Check.fails(KeeperException.Code.BADVERSION, () -> client.transaction().forOperations(
            client.transactionOp().create().forPath("/b"), client.transactionOp().check().withVersion(9).forPath("/a")));
        Check.same(null, client.checkExists().forPath("/b"));
    }

    private static void watches(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        Events once = new Events();
        Events recursive = new Events();
        client.create().forPath("/a");
        client.getData().usingWatcher(once).forPath("/a");
        client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(recursive).forPath("/a");
        client.setData().forPath("/a", bytes("x"));
        once.expect(Watcher.Event.EventType.NodeDataChanged, "/a");
        recursive.expect(Watcher.Event.EventType.NodeDataChanged, "/a");
        client.create().forPath("/a/b");
        recursive.expect(Watcher.Event.EventType.NodeCreated, "/a/b");
        client.watchers().remove(recursive).ofType(Watcher.WatcherType.Any).forPath("/a");
        Check.same(Watcher.Event.EventType.PersistentWatchRemoved, recursive.next().getType());
        client.setData().forPath("/a", bytes("y"));
        client.sync().forPath("/a");
        recursive.expectNone();
        once.expectNone();
    }

    private static void namespace(World world) throws Exception {
        CuratorFramework client = Curators.open(world).usingNamespace("space");
        Check.same("/a", client.create().forPath("/a"));
        world.zk().sync(world.root);
        Check.that(world.zk().exists(world.path("space/a"), false) != null, "it is below the namespace");
    }

    private static void states(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), World.SESSION_TIMEOUT_MS);
        java.util.concurrent.LinkedBlockingQueue<ConnectionState> states = new java.util.concurrent.LinkedBlockingQueue<>();
        client.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        for (int round = 0; round < 2; round++) {
            proxy.cut();
            Check.same(ConnectionState.SUSPENDED, states.poll(30, TimeUnit.SECONDS));
            Check.same(ConnectionState.RECONNECTED, states.poll(30, TimeUnit.SECONDS));
            client.create().forPath("/n" + round);
        }
    }

    private static void lost(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), 1000);
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/e");
        java.util.concurrent.LinkedBlockingQueue<ConnectionState> states = new java.util.concurrent.LinkedBlockingQueue<>();
        client.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        proxy.refuse();
        Check.same(ConnectionState.SUSPENDED, states.poll(30, TimeUnit.SECONDS));
        Check.same(ConnectionState.LOST, states.poll(30, TimeUnit.SECONDS));
        Check.eventually("the session expires on the server", () -> world.zk().exists(world.path("e"), false) == null);
        proxy.welcome();
        Check.same(ConnectionState.RECONNECTED, states.poll(30, TimeUnit.SECONDS));
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/e");
    }
}
