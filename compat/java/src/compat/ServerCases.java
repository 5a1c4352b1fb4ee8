package compat;

import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;

import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.cli.DelQuotaCommand;
import org.apache.zookeeper.cli.SetQuotaCommand;
import org.apache.zookeeper.data.Stat;

/** sync, the configuration node, reconfig, quotas. */
final class ServerCases {
    private ServerCases() {}

    static void addTo(Harness harness) {
        harness.add("sync", ServerCases::sync);
        harness.add("get-config", ServerCases::config);
        harness.add("reconfig-error", ServerCases::reconfig);
        harness.add("quota", ServerCases::quota);
        harness.add("built-in-nodes", ServerCases::builtIn);
    }

    private static void sync(World world) throws Exception {
        world.zk().sync("/");
        world.zk().sync(world.path("none"));
        ZooKeeper other = world.open();
        for (int i = 0; i < 100; i++) {
            world.zk().setData(world.root, NodeCases.bytes("" + i), -1);
            other.sync(world.root);
            Check.same(NodeCases.bytes("" + i), other.getData(world.root, false, null));
        }
    }

    private static void config(World world) throws Exception {
        Stat stat = new Stat();
        byte[] data = world.zk().getConfig(false, stat);
        Check.same(data, world.zk().getData("/zookeeper/config", false, null));
        Events events = new Events();
        world.zk().getConfig(events, stat);
        Check.fails(KeeperException.Code.NOAUTH, () -> world.zk().setData("/zookeeper/config", null, -1));
    }

    /**
     * A standalone server refuses, with one error if reconfig is disabled and another if it is not; an ensemble wants
     * the super user.
     */
    private static void reconfig(World world) throws Exception {
        Events events = new Events();
        ZooKeeperAdmin admin = world.keep(new ZooKeeperAdmin(world.address, World.SESSION_TIMEOUT_MS, events));
        events.expect(org.apache.zookeeper.Watcher.Event.KeeperState.SyncConnected);
        try {
            admin.reconfigure("server.2=127.0.0.1:2888:3888;2182", null, null, -1, new Stat());
            throw new AssertionError("it was reconfigured");
        } catch (KeeperException.NoAuthException refused) {
            Check.that(world.address.contains(","), "an ensemble");
        } catch (KeeperException.ReconfigDisabledException | KeeperException.UnimplementedException refused) {
            Check.that(admin.exists("/", false) != null, "the connection lives");
        }
    }

    private static void quota(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("q", "12345");
        world.node("q/a", "678");
        StatsTrack limits = new StatsTrack();
        limits.setCount(10);
        limits.setBytes(100);
        SetQuotaCommand.createQuota(zk, path, limits);
        String quotaNode = "/zookeeper/quota" + path;
        String stats = quotaNode + "/zookeeper_stats";
        Check.same(new StatsTrack("count=2,bytes=8"), new StatsTrack(zk.getData(stats, false, null)));
        world.node("q/b", "9");
        zk.setData(path, NodeCases.bytes("1"), -1);
        Check.same(new StatsTrack("count=3,bytes=5"), new StatsTrack(zk.getData(stats, false, null)));
        zk.delete(path + "/a", -1);
        Check.same(new StatsTrack("count=2,bytes=2"), new StatsTrack(zk.getData(stats, false, null)));
        Check.same(0, zk.exists(stats, false).getVersion());
        StatsTrack nothing = new StatsTrack();
        nothing.setCount(1);
        nothing.setBytes(1);
        Check.that(DelQuotaCommand.delQuota(zk, path, nothing), "the quota is removed");
        org.apache.zookeeper.ZKUtil.deleteRecursive(zk, "/zookeeper/quota/" + world.root.substring(1));
    }

    private static void builtIn(World world) throws Exception {
        ZooKeeper zk = world.zk();
        Check.that(zk.getChildren("/", false).contains("zookeeper"), "/zookeeper");
        List<String> names = zk.getChildren("/zookeeper", false);
        Check.that(names.contains("quota") && names.contains("config"), "its children: " + names);
        String mine = "/zookeeper" + world.root;
        zk.create(mine, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete(mine, 0);
    }
}
