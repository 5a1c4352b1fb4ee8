package compat;

import static compat.FrameworkCases.bytes;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.zookeeper.WatchedEvent;

/** Caches, which live from watches. */
@SuppressWarnings("deprecation") // the old caches use the one-shot watches, and are still in use
final class CacheCases {
    private CacheCases() {}

    static void addTo(Harness harness) {
        harness.add("curator-cache", CacheCases::curatorCache);
        harness.add("curator-cache-single-node", CacheCases::single);
        harness.add("curator-cache-reconnect", CacheCases::reconnect);
        harness.add("curator-cache-converges", CacheCases::converges);
        harness.add("tree-cache", CacheCases::treeCache);
        harness.add("path-children-cache", CacheCases::pathChildren);
        harness.add("node-cache", CacheCases::nodeCache);
        harness.add("persistent-watcher", CacheCases::persistentWatcher);
    }

    private static void next(String expected, BlockingQueue<String> events) throws Exception {
        Check.same(expected, events.poll(Check.PATIENCE_MS, TimeUnit.MILLISECONDS));
    }

    private static BlockingQueue<String> listen(CuratorCache cache) {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forCreates(node -> events.add("created " + node.getPath()))
            .forChanges((before, node) -> events.add("changed " + node.getPath() + " " + new String(node.getData())))
            .forDeletes(node -> events.add("deleted " + node.getPath()))
            .forInitialized(() -> events.add("ready"))
            .build());
        return events;
    }

    private static void curatorCache(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().creatingParentsIfNeeded().forPath("/c/a", bytes("1"));
        CuratorCache cache = world.keep(CuratorCache.build(client, "/c"));
        BlockingQueue<String> events = listen(cache);
        cache.start();
        next("created /c", events);
        next("created /c/a", events);
        next("ready", events);
        client.create().forPath("/c/a/deep", bytes("2"));
        next("created /c/a/deep", events);
        client.setData().forPath("/c/a/deep", bytes("3"));
        next("changed /c/a/deep 3", events);
        Check.same(bytes("3"), cache.get("/c/a/deep").get().getData());
        client.delete().forPath("/c/a/deep");
        next("deleted /c/a/deep", events);
        Check.same(2, cache.size());
    }

    private static void single(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        CuratorCache cache = world.keep(CuratorCache.build(client, "/n", CuratorCache.Options.SINGLE_NODE_CACHE));
        BlockingQueue<String> events = listen(cache);
        cache.start();
        next("ready", events);
        client.create().forPath("/n", bytes("1"));
        next("created /n", events);
        client.create().forPath("/n/child");
        client.setData().forPath("/n", bytes("2"));
        next("changed /n 2", events);
        client.delete().forPath("/n/child");
        client.delete().forPath("/n");
        next("deleted /n", events);
    }

    /** What changed while the connection was lost is in the cache after it is back. */
    private static void reconnect(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), World.SESSION_TIMEOUT_MS);
        client.create().creatingParentsIfNeeded().forPath("/c/a", bytes("1"));
        client.create().forPath("/c/b", bytes("1"));
        CuratorCache cache = world.keep(CuratorCache.build(client, "/c"));
        BlockingQueue<String> events = listen(cache);
        cache.start();
        Check.eventually("it is filled", () -> events.contains("ready"));
        proxy.refuse();
        CuratorFramework other = Curators.open(world);
        other.setData().forPath("/c/a", bytes("2"));
        other.delete().forPath("/c/b");
        other.create().forPath("/c/new", bytes("3"));
        proxy.welcome();
        Check.eventually("it catches up", () -> cache.get("/c/new").isPresent() && cache.get("/c/b").isEmpty()
            && new String(cache.get("/c/a").get().getData()).equals("2"));
    }

    /** Many changes by several clients: in the end the cache is what the server has. */
    private static void converges(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().forPath("/c");
        CuratorCache cache = world.keep(CuratorCache.build(client, "/c"));
        TreeCache tree = world.keep(new TreeCache(client, "/c"));
        cache.start();
        tree.start();
        Curators.together(4, thread -> () -> {
            CuratorFramework mine = Curators.open(world);
            for (int i = 0; i < 60; i++) {
                String path = "/c/n" + thread + "-" + i % 7;
                if (mine.checkExists().forPath(path) == null) {
                    mine.create().forPath(path, bytes("new"));
                } else if (i % 3 == 0) {
                    mine.delete().forPath(path);
                } else {
                    mine.setData().forPath(path, bytes("value " + i));
                }
            }
            return null;
        });
        client.sync().forPath("/c");
        Map<String, String> expected = new TreeMap<>();
        for (String name : client.getChildren().forPath("/c")) {
            expected.put("/c/" + name, new String(client.getData().forPath("/c/" + name)));
        }
        Check.eventually("the cache has what the server has", () -> {
            Map<String, String> cached = new TreeMap<>();
            cache.stream().filter(node -> !node.getPath().equals("/c")).forEach(node -> cached.put(node.getPath(), new String(node.getData())));
            return cached.equals(expected);
        });
        Check.eventually("so has the old one", () -> {
            Map<String, String> cached = new TreeMap<>();
            for (ChildData node : tree.getCurrentChildren("/c").values()) {
                cached.put(node.getPath(), new String(node.getData()));
            }
            return cached.equals(expected);
        });
    }

    private static void treeCache(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().creatingParentsIfNeeded().forPath("/t/a/b", bytes("1"));
        TreeCache cache = world.keep(new TreeCache(client, "/t"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        cache.getListenable().addListener((c, event) -> events.add(event.getType() + (event.getData() == null ? "" : " " + event.getData().getPath())));
        cache.start();
        next("NODE_ADDED /t", events);
        next("NODE_ADDED /t/a", events);
        next("NODE_ADDED /t/a/b", events);
        next("INITIALIZED", events);
        client.setData().forPath("/t/a/b", bytes("2"));
        next("NODE_UPDATED /t/a/b", events);
        client.create().forPath("/t/a/c");
        next("NODE_ADDED /t/a/c", events);
        client.delete().forPath("/t/a/b");
        next("NODE_REMOVED /t/a/b", events);
        Check.same(1, cache.getCurrentChildren("/t/a").size());
    }

    private static void pathChildren(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        client.create().creatingParentsIfNeeded().forPath("/p/a", bytes("1"));
        PathChildrenCache cache = world.keep(new PathChildrenCache(client, "/p", true));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        cache.getListenable().addListener((c, event) -> events.add(event.getType() + (event.getData() == null ? "" : " " + event.getData().getPath())));
        cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        Check.same(1, cache.getCurrentData().size());
        client.create().forPath("/p/b", bytes("2"));
        next("CHILD_ADDED /p/b", events);
        client.setData().forPath("/p/b", bytes("3"));
        next("CHILD_UPDATED /p/b", events);
        client.delete().forPath("/p/a");
        next("CHILD_REMOVED /p/a", events);
        Check.same(bytes("3"), cache.getCurrentData("/p/b").getData());
    }

    private static void nodeCache(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        NodeCache cache = world.keep(new NodeCache(client, "/n"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        cache.getListenable().addListener(() -> events.add(cache.getCurrentData() == null ? "gone" : new String(cache.getCurrentData().getData())));
        cache.start(true);
        client.create().forPath("/n", bytes("1"));
        next("1", events);
        client.setData().forPath("/n", bytes("2"));
        next("2", events);
        client.delete().forPath("/n");
        next("gone", events);
    }

    private static void persistentWatcher(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), World.SESSION_TIMEOUT_MS);
        client.create().forPath("/w");
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        PersistentWatcher watcher = world.keep(new PersistentWatcher(client, "/w", true));
        CountDownLatch set = new CountDownLatch(2);
        watcher.getResetListenable().addListener(set::countDown);
        watcher.getListenable().addListener((WatchedEvent event) -> {
            if (event.getPath() != null) {
                events.add(event.getType() + " " + event.getPath());
            }
        });
        watcher.start();
        Check.eventually("it is set", () -> set.getCount() == 1);
        client.create().forPath("/w/a");
        next("NodeCreated /w/a", events);
        proxy.cut();
        Check.that(set.await(30, TimeUnit.SECONDS), "it is set again");
        client.setData().forPath("/w/a", bytes("x"));
        next("NodeDataChanged /w/a", events);
    }
}
