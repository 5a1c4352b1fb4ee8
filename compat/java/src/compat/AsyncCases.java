package compat;

import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Every asynchronous call, with its success and its error. */
final class AsyncCases {
    private AsyncCases() {}

    static void addTo(Harness harness) {
        harness.add("async-write-calls", AsyncCases::writes);
        harness.add("async-read-calls", AsyncCases::reads);
        harness.add("async-watch-calls", AsyncCases::watches);
        harness.add("async-multi", AsyncCases::multi);
        harness.add("async-order", AsyncCases::order);
    }

    /** What a callback was told. */
    private record Answer(Code code, String path, Object context, Object result) {}

    private static final class Mailbox {
        private final BlockingQueue<Answer> answers = new ArrayBlockingQueue<>(100);

        void put(int rc, String path, Object context, Object result) {
            answers.add(new Answer(Code.get(rc), path, context, result));
        }

        Object expect(Code code, String path) throws InterruptedException {
            Answer answer = answers.poll(Check.PATIENCE_MS, TimeUnit.MILLISECONDS);
            Check.that(answer != null, "no callback came");
            Check.same(code, answer.code());
            Check.same(path, answer.path());
            Check.same("context", answer.context());
            return answer.result();
        }
    }

    private static void writes(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Mailbox box = new Mailbox();
        String path = world.path("a");
        zk.create(path, new byte[] {1}, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, box::put, "context");
        Check.same(path, box.expect(Code.OK, path));
        zk.create(path, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, box::put, "context");
        box.expect(Code.NODEEXISTS, path);
        String sequence = world.path("s-");
        zk.create(sequence, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL, (rc, p, ctx, name, stat) -> {
            box.put(rc, p, ctx, name + " " + stat.getVersion());
        }, "context");
        Check.same(sequence + "0000000001 0", box.expect(Code.OK, sequence));
        zk.setData(path, new byte[] {1, 2}, 0, box::put, "context");
        Check.same(1, ((Stat) box.expect(Code.OK, path)).getVersion());
        zk.setData(path, null, 0, box::put, "context");
        box.expect(Code.BADVERSION, path);
        zk.setACL(path, OPEN_ACL_UNSAFE, 0, box::put, "context");
        Check.same(1, ((Stat) box.expect(Code.OK, path)).getAversion());
        zk.setACL(path, List.of(), 1, box::put, "context");
        box.expect(Code.INVALIDACL, path);
        zk.delete(path, 7, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.BADVERSION, path);
        zk.delete(path, 1, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.OK, path);
        zk.delete(path, -1, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.NONODE, path);
        zk.sync(path, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.OK, path);
    }

    private static void reads(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Mailbox box = new Mailbox();
        String path = world.node("a", "data");
        String none = world.path("none");
        world.node("a/b", "");
        zk.exists(path, false, box::put, "context");
        Check.same(4, ((Stat) box.expect(Code.OK, path)).getDataLength());
        zk.exists(none, false, box::put, "context");
        box.expect(Code.NONODE, none);
        zk.getData(path, false, (rc, p, ctx, data, stat) -> box.put(rc, p, ctx, data), "context");
        Check.same(NodeCases.bytes("data"), box.expect(Code.OK, path));
        zk.getData(none, false, (rc, p, ctx, data, stat) -> box.put(rc, p, ctx, data), "context");
        box.expect(Code.NONODE, none);
        zk.getChildren(path, false, (rc, p, ctx, names) -> box.put(rc, p, ctx, names), "context");
        Check.same(List.of("b"), box.expect(Code.OK, path));
        zk.getChildren(path, false, (rc, p, ctx, names, stat) -> box.put(rc, p, ctx, names + " " + stat.getNumChildren()), "context");
        Check.same("[b] 1", box.expect(Code.OK, path));
        zk.getACL(path, null, (rc, p, ctx, acl, stat) -> box.put(rc, p, ctx, acl), "context");
        Check.same(OPEN_ACL_UNSAFE, box.expect(Code.OK, path));
        zk.getAllChildrenNumber(path, (rc, p, ctx, number) -> box.put(rc, p, ctx, number), "context");
        Check.same(1, box.expect(Code.OK, path));
        String ephemeral = zk.create(world.path("e"), null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        zk.getEphemerals(world.root, (rc, ctx, names) -> box.put(rc, null, ctx, names), "context");
        Check.same(List.of(ephemeral), box.expect(Code.OK, null));
        zk.getEphemerals((rc, ctx, names) -> box.put(rc, null, ctx, names), "context");
        Check.same(List.of(ephemeral), box.expect(Code.OK, null));
        zk.getConfig(false, (rc, p, ctx, data, stat) -> box.put(rc, p, ctx, stat), "context");
        box.expect(Code.OK, "/zookeeper/config");
    }

    private static void watches(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Mailbox box = new Mailbox();
        Events events = new Events();
        String path = world.node("a", "");
        zk.addWatch(path, events, AddWatchMode.PERSISTENT, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.OK, path);
        zk.setData(path, null, -1);
        events.expect(org.apache.zookeeper.Watcher.Event.EventType.NodeDataChanged, path);
        zk.removeWatches(path, events, WatcherType.Any, false, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.OK, path);
        zk.getData(path, events, null);
        zk.removeAllWatches(path, WatcherType.Data, false, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.OK, path);
        zk.removeAllWatches(path, WatcherType.Data, false, (rc, p, ctx) -> box.put(rc, p, ctx, null), "context");
        box.expect(Code.NOWATCHER, path);
    }

    private static void multi(World world) throws Exception {
        Mailbox box = new Mailbox();
        Op create = Op.create(world.path("a"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        world.zk().multi(List.of(create, Op.check(world.path("a"), 0)), (rc, p, ctx, results) -> box.put(rc, p, ctx, results.size()), "context");
        Check.same(2, box.expect(Code.OK, null));
        world.zk().multi(List.of(Op.check(world.root, 0), create), (rc, p, ctx, results) -> box.put(rc, p, ctx, results.size()), "context");
        Check.same(2, box.expect(Code.NODEEXISTS, null));
    }

    /** Callbacks of one handle come in the order of the calls, whatever kind they are of. */
    private static void order(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        int count = 3000;
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            int number = i;
            Runnable answered = () -> {
                order.add(number);
                done.countDown();
            };
            switch (i % 5) {
                case 0 -> zk.setData(path, new byte[] {1}, -1, (rc, p, ctx, stat) -> answered.run(), null);
                case 1 -> zk.getData(path, false, (rc, p, ctx, data, stat) -> answered.run(), null);
                case 2 -> zk.exists(world.path("none"), false, (rc, p, ctx, stat) -> answered.run(), null);
                case 3 -> zk.sync(path, (rc, p, ctx) -> answered.run(), null);
                default -> zk.create(path + "/s", null, OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL, (rc, p, ctx, name) -> answered.run(), null);
            }
        }
        Check.that(done.await(Check.PATIENCE_MS, TimeUnit.MILLISECONDS), "all callbacks come");
        for (int i = 0; i < count; i++) {
            Check.same(i, order.get(i));
        }
    }
}
