package compat;

import static compat.FrameworkCases.bytes;

import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.CachedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/** Counters, barriers, shared values, nodes that come back, groups. */
final class CoordinationCases {
    private CoordinationCases() {}

    static void addTo(Harness harness) {
        harness.add("atomic-long", CoordinationCases::atomicLong);
        harness.add("atomic-long-contended", CoordinationCases::contended);
        harness.add("atomic-long-cached", CoordinationCases::cached);
        harness.add("barrier", CoordinationCases::barrier);
        harness.add("double-barrier", CoordinationCases::doubleBarrier);
        harness.add("shared-count", CoordinationCases::sharedCount);
        harness.add("shared-value", CoordinationCases::sharedValue);
        harness.add("persistent-node", CoordinationCases::persistentNode);
        harness.add("persistent-node-new-session", CoordinationCases::newSession);
        harness.add("persistent-ttl-node", CoordinationCases::ttlNode);
        harness.add("group-member", CoordinationCases::groupMember);
    }

    private static void atomicLong(World world) throws Exception {
        DistributedAtomicLong counter = new DistributedAtomicLong(Curators.open(world), "/counter", new RetryNTimes(10, 10));
        Check.that(counter.initialize(5L), "initialised");
        Check.that(!counter.initialize(6L), "only once");
        AtomicValue<Long> value = counter.add(10L);
        Check.that(value.succeeded(), "added");
        Check.same(5L, value.preValue());
        Check.same(15L, value.postValue());
        Check.same(14L, counter.decrement().postValue());
        Check.that(!counter.compareAndSet(1L, 2L).succeeded(), "it is not 1");
        Check.that(counter.compareAndSet(14L, 2L).succeeded(), "it was 14");
        counter.forceSet(100L);
        Check.same(100L, counter.get().postValue());
    }

    private static void contended(World world) throws Exception {
        int threads = 6;
        int each = 20;
        Curators.together(threads, i -> () -> {
            DistributedAtomicInteger counter = new DistributedAtomicInteger(Curators.open(world), "/counter", new RetryNTimes(500, 5));
            for (int round = 0; round < each; round++) {
                Check.that(counter.increment().succeeded(), "incremented");
            }
            return null;
        });
        DistributedAtomicInteger counter = new DistributedAtomicInteger(Curators.open(world), "/counter", new RetryNTimes(1, 1));
        Check.same(threads * each, counter.get().postValue());
    }

    private static void cached(World world) throws Exception {
        ConcurrentLinkedQueue<Long> values = new ConcurrentLinkedQueue<>();
        Curators.together(3, i -> () -> {
            DistributedAtomicLong counter = new DistributedAtomicLong(Curators.open(world), "/counter", new RetryNTimes(500, 5));
            CachedAtomicLong cached = new CachedAtomicLong(counter, 10);
            for (int round = 0; round < 100; round++) {
                AtomicValue<Long> value = cached.next();
                Check.that(value.succeeded(), "the next value");
                values.add(value.preValue());
            }
            return null;
        });
        Check.same(300, new TreeSet<>(values).size());
    }

    private static void barrier(World world) throws Exception {
        DistributedBarrier control = new DistributedBarrier(Curators.open(world), "/barrier");
        control.setBarrier();
        CountDownLatch through = new CountDownLatch(3);
        for (int i = 0; i < 3; i++) {
            DistributedBarrier barrier = new DistributedBarrier(Curators.open(world), "/barrier");
            Check.that(!barrier.waitOnBarrier(100, TimeUnit.MILLISECONDS), "it is up");
            new Thread(() -> {
                try {
                    barrier.waitOnBarrier();
                    through.countDown();
                } catch (Exception problem) {
                    System.err.println("barrier: " + problem);
                }
            }).start();
        }
        control.removeBarrier();
        Check.that(through.await(30, TimeUnit.SECONDS), "everybody is through");
    }

    private static void doubleBarrier(World world) throws Exception {
        int members = 5;
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger left = new AtomicInteger();
        Curators.together(members, i -> () -> {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(Curators.open(world), "/barrier", members);
            inside.incrementAndGet();
            Check.that(barrier.enter(30, TimeUnit.SECONDS), "entered");
            Check.same(members, inside.get());
            left.incrementAndGet();
            Check.that(barrier.leave(30, TimeUnit.SECONDS), "left");
            Check.same(members, left.get());
            return null;
        });
    }

    private static void sharedCount(World world) throws Exception {
        SharedCount first = world.keep(new SharedCount(Curators.open(world), "/count", 7));
        SharedCount second = world.keep(new SharedCount(Curators.open(world), "/count", 7));
        LinkedBlockingQueue<Integer> heard = new LinkedBlockingQueue<>();
        second.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader count, int value) {
                heard.add(value);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        });
        first.start();
        second.start();
        Check.same(7, first.getCount());
        first.setCount(8);
        Check.same(8, heard.poll(30, TimeUnit.SECONDS));
        Check.that(second.trySetCount(second.getVersionedValue(), 9), "nobody was faster");
        Check.eventually("the first hears", () -> first.getCount() == 9);
    }

    private static void sharedValue(World world) throws Exception {
        SharedValue first = world.keep(new SharedValue(Curators.open(world), "/value", bytes("a")));
        SharedValue second = world.keep(new SharedValue(Curators.open(world), "/value", bytes("a")));
        first.start();
        second.start();
        first.setValue(bytes("b"));
        Check.eventually("the second sees it", () -> new String(second.getValue()).equals("b"));
    }

    private static void persistentNode(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        PersistentNode node = world.keep(new PersistentNode(client, CreateMode.EPHEMERAL, false, "/node", bytes("1")));
        node.start();
        Check.that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "created");
        CuratorFramework other = Curators.open(world);
        other.sync().forPath("/node");
        long czxid = other.checkExists().forPath("/node").getCzxid();
        other.delete().forPath("/node");
        Check.eventually("it comes back", () -> {
            var stat = other.checkExists().forPath("/node");
            return stat != null && stat.getCzxid() > czxid;
        });
        node.setData(bytes("2"));
        Check.eventually("its data changes", () -> new String(other.getData().forPath("/node")).equals("2"));
        node.close();
        other.sync().forPath("/node");
        Check.same(null, other.checkExists().forPath("/node"));
    }

    private static void newSession(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), 1000);
        PersistentNode node = world.keep(new PersistentNode(client, CreateMode.EPHEMERAL, false, "/node", bytes("1")));
        node.start();
        Check.that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "created");
        long session = client.getZookeeperClient().getZooKeeper().getSessionId();
        CuratorFramework other = Curators.open(world);
        proxy.refuse();
        Check.eventually("it goes with its session", () -> other.checkExists().forPath("/node") == null);
        proxy.welcome();
        Check.eventually("it is back", () -> other.checkExists().forPath("/node") != null);
        Check.that(other.checkExists().forPath("/node").getEphemeralOwner() != session, "it belongs to the new session");
    }

    private static void ttlNode(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        try {
            client.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/probe");
        } catch (KeeperException.UnimplementedException off) {
            throw new Harness.Skip("the server has no zookeeper.extendedTypesEnabled");
        }
        PersistentTtlNode node = world.keep(new PersistentTtlNode(client, "/node", 60_000, bytes("1")));
        node.start();
        Check.that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "created");
        Check.same(bytes("1"), client.getData().forPath("/node"));
    }

    private static void groupMember(World world) throws Exception {
        GroupMember[] members = new GroupMember[4];
        for (int i = 0; i < members.length; i++) {
            members[i] = new GroupMember(Curators.open(world), "/group", "member-" + i, bytes("" + i));
            members[i].start();
        }
        for (GroupMember member : members) {
            Check.eventually("all are seen", () -> member.getCurrentMembers().size() == 4);
            Check.same(bytes("2"), member.getCurrentMembers().get("member-2"));
        }
        members[2].close();
        Check.eventually("one left", () -> members[0].getCurrentMembers().keySet().equals(Set.of("member-0", "member-1", "member-3")));
        for (GroupMember member : members) {
            member.close();
        }
    }
}
