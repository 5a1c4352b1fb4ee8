package compat;

import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Many threads on one handle, many requests in flight, many sessions at once. */
final class LoadCases {
    private static final int THREADS = 100;

    private LoadCases() {}

    static void addTo(Harness harness) {
        harness.add("load-threads-on-one-handle", LoadCases::threads);
        harness.add("load-in-flight-on-one-handle", LoadCases::inFlight);
        harness.add("load-read-your-writes", LoadCases::readYourWrites);
        harness.add("load-sequence-unique", LoadCases::sequences);
        harness.add("load-compare-and-set", LoadCases::compareAndSet);
        harness.add("load-through-cuts", LoadCases::throughCuts);
    }

    private static void together(int threads, Callable<Callable<Void>> makeBody) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try {
            List<Future<Void>> results = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                results.add(pool.submit(makeBody.call()));
            }
            for (Future<Void> result : results) {
                result.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }

    private static Callable<Callable<Void>> numbered(java.util.function.IntFunction<Callable<Void>> body) {
        java.util.concurrent.atomic.AtomicInteger next = new java.util.concurrent.atomic.AtomicInteger();
        return () -> body.apply(next.getAndIncrement());
    }

    private static void threads(World world) throws Exception {
        ZooKeeper zk = world.zk();
        together(THREADS, numbered(thread -> () -> {
            String path = world.node("t" + thread, "");
            for (int i = 0; i < 30; i++) {
                byte[] value = NodeCases.bytes(thread + ":" + i);
                Check.same(i + 1, zk.setData(path, value, i).getVersion());
                Stat stat = new Stat();
                Check.same(value, zk.getData(path, false, stat));
                Check.same(i + 1, stat.getVersion());
                zk.getChildren(path, false);
            }
            zk.delete(path, 30);
            Check.same(null, zk.exists(path, false));
            return null;
        }));
    }

    /** Hundreds of requests of a hundred threads outstanding; answers come in the order the requests were sent. */
    private static void inFlight(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        Semaphore window = new Semaphore(800);
        Queue<Long> sent = new ConcurrentLinkedQueue<>();
        Queue<String> problems = new ConcurrentLinkedQueue<>();
        CountDownLatch done = new CountDownLatch(THREADS * 200);
        Object order = new Object();
        long[] number = {0};
        together(THREADS, numbered(thread -> () -> {
            for (int i = 0; i < 200; i++) {
                window.acquire();
                synchronized (order) {
                    long mine = number[0]++;
                    sent.add(mine);
                    Runnable answered = () -> {
                        Long first = sent.poll();
                        if (first == null || first != mine) {
                            problems.add("answer " + mine + " came when " + first + " was due");
                        }
                        window.release();
                        done.countDown();
                    };
                    if (mine % 3 == 0) {
                        zk.setData(path, NodeCases.bytes("" + mine), -1, (rc, p, ctx, stat) -> answered.run(), null);
                    } else {
                        zk.getData(path, false, (rc, p, ctx, data, stat) -> answered.run(), null);
                    }
                }
            }
            return null;
        }));
        Check.that(done.await(Check.PATIENCE_MS, TimeUnit.MILLISECONDS), "every request is answered");
        Check.same(null, problems.peek());
    }

    /** A read that follows a write in the same session sees it, even while both are in flight. */
    private static void readYourWrites(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        Queue<String> problems = new ConcurrentLinkedQueue<>();
        int count = 2000;
        CountDownLatch done = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            int version = i + 1;
            zk.setData(path, NodeCases.bytes("" + i), -1, (rc, p, ctx, stat) -> { }, null);
            zk.getData(path, false, (rc, p, ctx, data, stat) -> {
                if (stat.getVersion() != version) {
                    problems.add("read version " + stat.getVersion() + " after write " + version);
                }
                done.countDown();
            }, null);
        }
        Check.that(done.await(Check.PATIENCE_MS, TimeUnit.MILLISECONDS), "every read is answered");
        Check.same(null, problems.peek());
    }

    private static void sequences(World world) throws Exception {
        int sessions = 20;
        int each = 50;
        Queue<String> names = new ConcurrentLinkedQueue<>();
        together(sessions, numbered(session -> () -> {
            ZooKeeper zk = world.open();
            for (int i = 0; i < each; i++) {
                names.add(zk.create(world.path("s-"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL));
            }
            return null;
        }));
        TreeSet<String> unique = new TreeSet<>(names);
        Check.same(sessions * each, unique.size());
        Check.same(world.path("s-0000000000"), unique.first());
        Check.same(world.path(String.format("s-%010d", sessions * each - 1)), unique.last());
    }

    private static void compareAndSet(World world) throws Exception {
        String path = world.node("counter", "0");
        int sessions = 10;
        int each = 50;
        together(sessions, numbered(session -> () -> {
            ZooKeeper zk = world.open();
            for (int i = 0; i < each; ) {
                Stat stat = new Stat();
                int value = Integer.parseInt(new String(zk.getData(path, false, stat)));
                try {
                    zk.setData(path, NodeCases.bytes("" + (value + 1)), stat.getVersion());
                    i++;
                } catch (KeeperException.BadVersionException beaten) {
                    // Somebody else was faster.
                }
            }
            return null;
        }));
        Check.same("" + sessions * each, new String(world.zk().getData(path, false, null)));
    }

    /** Connections break while writing; nothing acknowledged is lost and the session is kept. */
    private static void throughCuts(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events states = new Events();
        ZooKeeper zk = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, states);
        long session = zk.getSessionId();
        List<String> acknowledged = new ArrayList<>();
        for (int round = 0; round < 4; round++) {
            Thread cutter = new Thread(proxy::cut);
            for (int i = 0; i < 200; i++) {
                String path = world.path("n-" + round + "-" + i);
                if (i == 100) {
                    cutter.start();
                }
                try {
                    zk.create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                    acknowledged.add(path);
                } catch (KeeperException.ConnectionLossException lost) {
                    // It may or may not have been done.
                }
            }
            cutter.join();
            states.await(KeeperState.Disconnected);
            states.await(KeeperState.SyncConnected);
        }
        Check.same(session, zk.getSessionId());
        Check.that(acknowledged.size() > 400, "most are acknowledged: " + acknowledged.size());
        List<String> children = world.zk().getChildren(world.root, false);
        for (String path : acknowledged) {
            Check.that(children.contains(path.substring(world.root.length() + 1)), "acknowledged and lost: " + path);
        }
    }
}
