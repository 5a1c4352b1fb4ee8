package compat;

import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;

/** Locks and semaphores. */
final class LockCases {
    private LockCases() {}

    static void addTo(Harness harness) {
        harness.add("mutex-excludes", LockCases::excludes);
        harness.add("mutex-reentrant", LockCases::reentrant);
        harness.add("mutex-waits-and-times-out", LockCases::timesOut);
        harness.add("mutex-many-threads", LockCases::manyThreads);
        harness.add("mutex-of-dead-owner", LockCases::deadOwner);
        harness.add("mutex-through-reconnect", LockCases::reconnect);
        harness.add("mutex-revoked", LockCases::revoked);
        harness.add("mutex-semaphore-mutex", LockCases::semaphoreMutex);
        harness.add("read-write-lock", LockCases::readWrite);
        harness.add("multi-lock", LockCases::multiLock);
        harness.add("semaphore", LockCases::semaphore);
        harness.add("semaphore-many", LockCases::semaphoreMany);
    }

    /** Enters and leaves; never more than allowed are inside. */
    private static void inside(AtomicInteger count, int allowed) throws Exception {
        int now = count.incrementAndGet();
        Check.that(now <= allowed, now + " at once");
        Thread.sleep(1);
        count.decrementAndGet();
    }

    private static void excludes(World world) throws Exception {
        AtomicInteger count = new AtomicInteger();
        Curators.together(6, i -> () -> {
            CuratorFramework client = Curators.open(world);
            InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
            for (int round = 0; round < 15; round++) {
                mutex.acquire();
                inside(count, 1);
                mutex.release();
            }
            return null;
        });
    }

    private static void reentrant(World world) throws Exception {
        InterProcessMutex mutex = new InterProcessMutex(Curators.open(world), "/lock");
        for (int i = 0; i < 3; i++) {
            Check.that(mutex.acquire(1, TimeUnit.SECONDS), "again");
        }
        Check.same(1, mutex.getParticipantNodes().size());
        for (int i = 0; i < 3; i++) {
            Check.that(mutex.isAcquiredInThisProcess(), "still held");
            mutex.release();
        }
        Check.that(!mutex.isAcquiredInThisProcess(), "released");
    }

    private static void timesOut(World world) throws Exception {
        InterProcessMutex first = new InterProcessMutex(Curators.open(world), "/lock");
        InterProcessMutex second = new InterProcessMutex(Curators.open(world), "/lock");
        first.acquire();
        Check.that(!second.acquire(300, TimeUnit.MILLISECONDS), "it is taken");
        Check.same(1, first.getParticipantNodes().size());
        first.release();
        Check.that(second.acquire(10, TimeUnit.SECONDS), "it is free");
        second.release();
    }

    private static void manyThreads(World world) throws Exception {
        InterProcessMutex mutex = new InterProcessMutex(Curators.open(world), "/lock");
        AtomicInteger count = new AtomicInteger();
        Curators.together(30, i -> () -> {
            for (int round = 0; round < 5; round++) {
                mutex.acquire();
                inside(count, 1);
                mutex.release();
            }
            return null;
        });
    }

    private static void deadOwner(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework dying = Curators.open(world, proxy.address(), 1000);
        new InterProcessMutex(dying, "/lock").acquire();
        proxy.refuse();
        InterProcessMutex heir = new InterProcessMutex(Curators.open(world), "/lock");
        Check.that(heir.acquire(30, TimeUnit.SECONDS), "the lock of an expired session is free");
        heir.release();
    }

    private static void reconnect(World world) throws Exception {
        Proxy proxy = world.proxy();
        CuratorFramework client = Curators.open(world, proxy.address(), World.SESSION_TIMEOUT_MS);
        InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
        mutex.acquire();
        proxy.cut();
        client.checkExists().forPath("/lock");
        InterProcessMutex other = new InterProcessMutex(Curators.open(world), "/lock");
        Check.that(!other.acquire(300, TimeUnit.MILLISECONDS), "it is held through the cut");
        mutex.release();
        Check.that(other.acquire(10, TimeUnit.SECONDS), "it is free");
        other.release();
    }

    private static void revoked(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
        CountDownLatch asked = new CountDownLatch(1);
        mutex.makeRevocable(lock -> asked.countDown());
        mutex.acquire();
        Revoker.attemptRevoke(Curators.open(world), mutex.getParticipantNodes().iterator().next());
        Check.that(asked.await(30, TimeUnit.SECONDS), "the owner is asked");
        mutex.release();
    }

    private static void semaphoreMutex(World world) throws Exception {
        AtomicInteger count = new AtomicInteger();
        Curators.together(4, i -> () -> {
            InterProcessSemaphoreMutex mutex = new InterProcessSemaphoreMutex(Curators.open(world), "/lock");
            for (int round = 0; round < 8; round++) {
                mutex.acquire();
                inside(count, 1);
                mutex.release();
            }
            return null;
        });
    }

    private static void readWrite(World world) throws Exception {
        AtomicInteger readers = new AtomicInteger();
        AtomicInteger writers = new AtomicInteger();
        Curators.together(6, i -> () -> {
            InterProcessReadWriteLock lock = new InterProcessReadWriteLock(Curators.open(world), "/lock");
            for (int round = 0; round < 8; round++) {
                if ((i + round) % 3 == 0) {
                    lock.writeLock().acquire();
                    Check.same(0, readers.get());
                    inside(writers, 1);
                    lock.writeLock().release();
                } else {
                    lock.readLock().acquire();
                    readers.incrementAndGet();
                    Check.same(0, writers.get());
                    readers.decrementAndGet();
                    lock.readLock().release();
                }
            }
            return null;
        });
        InterProcessReadWriteLock lock = new InterProcessReadWriteLock(Curators.open(world), "/other");
        lock.writeLock().acquire();
        Check.that(lock.readLock().acquire(5, TimeUnit.SECONDS), "a writer may read");
        lock.writeLock().release();
        InterProcessReadWriteLock another = new InterProcessReadWriteLock(Curators.open(world), "/other");
        Check.that(another.readLock().acquire(5, TimeUnit.SECONDS), "two readers");
        Check.that(!another.writeLock().acquire(300, TimeUnit.MILLISECONDS), "no writer beside readers");
        another.readLock().release();
        lock.readLock().release();
    }

    private static void multiLock(World world) throws Exception {
        CuratorFramework client = Curators.open(world);
        InterProcessMultiLock both = new InterProcessMultiLock(client, List.of("/a", "/b"));
        InterProcessMutex second = new InterProcessMutex(Curators.open(world), "/b");
        second.acquire();
        Check.that(!both.acquire(300, TimeUnit.MILLISECONDS), "one of them is taken");
        Check.that(new InterProcessMutex(client, "/a").acquire(5, TimeUnit.SECONDS), "the other was given back");
        second.release();
    }

    private static void semaphore(World world) throws Exception {
        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(Curators.open(world), "/semaphore", 3);
        List<Lease> leases = List.copyOf(semaphore.acquire(3));
        Check.same(3, semaphore.getParticipantNodes().size());
        InterProcessSemaphoreV2 other = new InterProcessSemaphoreV2(Curators.open(world), "/semaphore", 3);
        Check.same(null, other.acquire(300, TimeUnit.MILLISECONDS));
        semaphore.returnLease(leases.get(0));
        Lease lease = other.acquire(10, TimeUnit.SECONDS);
        Check.that(lease != null, "one is free");
        other.returnLease(lease);
        semaphore.returnAll(leases.subList(1, 3));
    }

    private static void semaphoreMany(World world) throws Exception {
        AtomicInteger count = new AtomicInteger();
        Curators.together(8, i -> () -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(Curators.open(world), "/semaphore", 3);
            for (int round = 0; round < 5; round++) {
                Lease lease = semaphore.acquire();
                inside(count, 3);
                semaphore.returnLease(lease);
            }
            return null;
        });
    }
}
