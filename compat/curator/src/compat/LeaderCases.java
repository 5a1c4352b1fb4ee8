package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;

/** Leader election, both ways. */
final class LeaderCases {
    private LeaderCases() {}

    static void addTo(Harness harness) {
        harness.add("leader-latch-one-leader", LeaderCases::oneLeader);
        harness.add("leader-latch-hands-over", LeaderCases::handsOver);
        harness.add("leader-latch-session-lost", LeaderCases::sessionLost);
        harness.add("leader-selector-rotates", LeaderCases::rotates);
        harness.add("leader-selector-cancelled", LeaderCases::cancelled);
    }

    private static List<LeaderLatch> latches(World world, int count) throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            LeaderLatch latch = new LeaderLatch(Curators.open(world), "/leader", "candidate-" + i);
            latch.start();
            latches.add(latch);
        }
        return latches;
    }

    private static LeaderLatch leaderOf(List<LeaderLatch> latches) throws Exception {
        Check.eventually("somebody leads", () -> latches.stream().anyMatch(LeaderLatch::hasLeadership));
        List<LeaderLatch> leaders = latches.stream().filter(LeaderLatch::hasLeadership).toList();
        Check.same(1, leaders.size());
        return leaders.get(0);
    }

    private static void oneLeader(World world) throws Exception {
        List<LeaderLatch> latches = latches(world, 5);
        LeaderLatch leader = leaderOf(latches);
        for (LeaderLatch latch : latches) {
            Check.eventually("all take part", () -> latch.getParticipants().size() == 5);
            Check.same(leader.getId(), latch.getLeader().getId());
        }
        for (LeaderLatch latch : latches) {
            latch.close();
        }
    }

    private static void handsOver(World world) throws Exception {
        List<LeaderLatch> latches = new ArrayList<>(latches(world, 5));
        while (!latches.isEmpty()) {
            LeaderLatch leader = leaderOf(latches);
            leader.close();
            latches.remove(leader);
        }
    }

    private static void sessionLost(World world) throws Exception {
        Proxy proxy = world.proxy();
        LeaderLatch first = world.keep(new LeaderLatch(Curators.open(world, proxy.address(), 1000), "/leader", "first"));
        first.start();
        Check.that(first.await(30, TimeUnit.SECONDS), "the first leads");
        LeaderLatch second = world.keep(new LeaderLatch(Curators.open(world), "/leader", "second"));
        second.start();
        proxy.refuse();
        Check.that(second.await(30, TimeUnit.SECONDS), "the second leads when the first is gone");
        Check.eventually("the first knows", () -> !first.hasLeadership());
        proxy.welcome();
        Check.eventually("the first is back in the queue", () -> second.getParticipants().size() == 2);
        Check.that(second.hasLeadership() && !first.hasLeadership(), "the second still leads");
    }

    private static void rotates(World world) throws Exception {
        int candidates = 4;
        AtomicInteger leading = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        CountDownLatch turns = new CountDownLatch(candidates * 2);
        for (int i = 0; i < candidates; i++) {
            LeaderSelector selector = new LeaderSelector(Curators.open(world), "/leader", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) {
                    most.accumulateAndGet(leading.incrementAndGet(), Math::max);
                    turns.countDown();
                    leading.decrementAndGet();
                }
            });
            selector.autoRequeue();
            selector.start();
            world.keep(selector);
        }
        Check.that(turns.await(30, TimeUnit.SECONDS), "leadership goes round");
        Check.same(1, most.get());
    }

    private static void cancelled(World world) throws Exception {
        CountDownLatch taken = new CountDownLatch(1);
        CountDownLatch interrupted = new CountDownLatch(1);
        LeaderSelector selector = world.keep(new LeaderSelector(Curators.open(world), "/leader", new LeaderSelectorListenerAdapter() {
            @Override
            public void takeLeadership(CuratorFramework client) throws InterruptedException {
                taken.countDown();
                try {
                    new CountDownLatch(1).await();
                } catch (InterruptedException wanted) {
                    interrupted.countDown();
                    throw wanted;
                }
            }
        }));
        selector.start();
        Check.that(taken.await(30, TimeUnit.SECONDS), "it leads");
        Check.that(selector.hasLeadership(), "and knows");
        selector.interruptLeadership();
        Check.that(interrupted.await(30, TimeUnit.SECONDS), "it is told to stop");
        Check.eventually("nobody leads", () -> selector.getParticipants().isEmpty());
    }
}
