package compat;

import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.ZooKeeper;

/** Transactions and batched reads. */
final class MultiCases {
    private MultiCases() {}

    static void addTo(Harness harness) {
        harness.add("multi-success", MultiCases::success);
        harness.add("multi-failure", MultiCases::failure);
        harness.add("multi-transaction", MultiCases::transaction);
        harness.add("multi-all-kinds", MultiCases::allKinds);
        harness.add("multi-large", MultiCases::large);
        harness.add("multi-empty", MultiCases::empty);
        harness.add("multi-read", MultiCases::read);
        harness.add("multi-atomic-for-readers", MultiCases::atomic);
    }

    private static Op create(String path, CreateMode mode) {
        return Op.create(path, null, OPEN_ACL_UNSAFE, mode);
    }

    private static void success(World world) throws Exception {
        ZooKeeper zk = world.zk();
        List<OpResult> results = zk.multi(List.of(
            create(world.path("a"), CreateMode.PERSISTENT),
            create(world.path("a/s-"), CreateMode.EPHEMERAL_SEQUENTIAL),
            Op.setData(world.path("a"), NodeCases.bytes("x"), 0),
            Op.check(world.path("a"), 1),
            Op.delete(world.path("a/s-0000000000"), 0)));
        Check.same(5, results.size());
        Check.same(world.path("a"), ((OpResult.CreateResult) results.get(0)).getPath());
        Check.same(world.path("a/s-0000000000"), ((OpResult.CreateResult) results.get(1)).getPath());
        Check.same(1, ((OpResult.SetDataResult) results.get(2)).getStat().getVersion());
        Check.that(results.get(3) instanceof OpResult.CheckResult, "a check");
        Check.that(results.get(4) instanceof OpResult.DeleteResult, "a delete");
        Check.same(List.of(), zk.getChildren(world.path("a"), false));
    }

    private static void failure(World world) throws Exception {
        ZooKeeper zk = world.zk();
        KeeperException error = Check.fails(Code.BADVERSION, () -> zk.multi(List.of(
            create(world.path("a"), CreateMode.PERSISTENT), Op.check(world.root, 7), create(world.path("b"), CreateMode.PERSISTENT))));
        List<Integer> codes = error.getResults().stream().map(result -> ((OpResult.ErrorResult) result).getErr()).toList();
        Check.same(List.of(Code.OK.intValue(), Code.BADVERSION.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()), codes);
        Check.same(List.of(), zk.getChildren(world.root, false));
        Check.same(0, zk.exists(world.root, false).getCversion());
        Check.fails(Code.NODEEXISTS, () -> zk.multi(List.of(create(world.path("a"), CreateMode.PERSISTENT), create(world.path("a"), CreateMode.PERSISTENT))));
        Check.fails(Code.NONODE, () -> zk.multi(List.of(Op.delete(world.path("a"), -1))));
        Check.fails(Code.NONODE, () -> zk.multi(List.of(Op.check(world.path("a"), -1))));
        Check.fails(Code.NONODE, () -> zk.multi(List.of(Op.setData(world.path("a"), null, -1))));
        // A failed transaction takes no sequence number.
        Check.fails(Code.NONODE, () -> zk.multi(List.of(create(world.path("s-"), CreateMode.PERSISTENT_SEQUENTIAL), Op.check(world.path("a"), -1))));
        Check.same(world.path("s-0000000000"), zk.create(world.path("s-"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
    }

    private static void transaction(World world) throws Exception {
        List<OpResult> results = world.zk().transaction()
            .create(world.path("a"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
            .setData(world.path("a"), NodeCases.bytes("1"), 0)
            .check(world.path("a"), 1)
            .delete(world.path("a"), 1)
            .commit();
        Check.same(4, results.size());
        Check.same(null, world.zk().exists(world.path("a"), false));
    }

    private static void allKinds(World world) throws Exception {
        ZooKeeper zk = world.open();
        zk.multi(List.of(
            create(world.path("p"), CreateMode.PERSISTENT), create(world.path("e"), CreateMode.EPHEMERAL),
            create(world.path("ps"), CreateMode.PERSISTENT_SEQUENTIAL), create(world.path("es"), CreateMode.EPHEMERAL_SEQUENTIAL),
            create(world.path("c"), CreateMode.CONTAINER)));
        Check.same(2, zk.getEphemerals(world.root).size());
        Check.same(5, zk.getChildren(world.root, false).size());
        try {
            Op ttl = Op.create(world.path("t"), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 600_000);
            Check.that(zk.multi(List.of(ttl)).get(0) instanceof OpResult.CreateResult, "a create result");
        } catch (KeeperException.UnimplementedException off) {
            // A server without zookeeper.extendedTypesEnabled; create-ttl says so.
        }
        zk.close();
        world.zk().sync(world.root);
        Check.same(0L, world.zk().getChildren(world.root, false).stream().filter(name -> name.startsWith("e")).count());
    }

    private static void large(World world) throws Exception {
        java.util.ArrayList<Op> operations = new java.util.ArrayList<>();
        for (int i = 0; i < 5000; i++) {
            operations.add(create(world.path("n" + i), CreateMode.PERSISTENT));
        }
        Check.same(5000, world.zk().multi(operations).size());
        Check.same(5000, world.zk().exists(world.root, false).getNumChildren());
        operations.clear();
        for (int i = 0; i < 5000; i++) {
            operations.add(Op.delete(world.path("n" + i), 0));
        }
        Check.same(5000, world.zk().multi(operations).size());
        Check.same(0, world.zk().exists(world.root, false).getNumChildren());
    }

    private static void empty(World world) throws Exception {
        Check.same(List.of(), world.zk().multi(List.of()));
    }

    private static void read(World world) throws Exception {
        world.node("a", "data");
        world.node("a/b", "");
        List<OpResult> results = world.zk().multi(List.of(
            Op.getData(world.path("a")), Op.getChildren(world.path("a")), Op.getData(world.path("none")), Op.getChildren(world.path("none"))));
        Check.same(NodeCases.bytes("data"), ((OpResult.GetDataResult) results.get(0)).getData());
        Check.same(List.of("b"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
        Check.same(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        Check.same(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(3)).getErr());
    }

    /** A reader never sees one of two nodes changed without the other. */
    private static void atomic(World world) throws Exception {
        ZooKeeper writer = world.open();
        world.node("a", "0");
        world.node("b", "0");
        Thread writing = new Thread(() -> {
            try {
                for (int i = 0; i < 300; i++) {
                    byte[] value = NodeCases.bytes("" + i);
                    writer.multi(List.of(Op.setData(world.path("a"), value, -1), Op.setData(world.path("b"), value, -1)));
                }
            } catch (Exception problem) {
                throw new IllegalStateException(problem);
            }
        });
        writing.start();
        while (writing.isAlive()) {
            List<OpResult> both = world.zk().multi(List.of(Op.getData(world.path("a")), Op.getData(world.path("b"))));
            Check.same(((OpResult.GetDataResult) both.get(0)).getStat().getMzxid() == ((OpResult.GetDataResult) both.get(1)).getStat().getMzxid()
                || ((OpResult.GetDataResult) both.get(0)).getStat().getVersion() == 0, true);
        }
        Check.same(300, world.zk().exists(world.path("b"), false).getVersion());
    }
}
