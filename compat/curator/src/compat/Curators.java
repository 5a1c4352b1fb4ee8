package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;

/** Curator clients of a case, and threads that use them. */
final class Curators {
    private static final int CONNECT_TIMEOUT_MS = 10_000;

    private Curators() {}

    /** A started client with its own session whose paths are below the case's own node. */
    static CuratorFramework open(World world) throws Exception {
        return open(world, world.address, World.SESSION_TIMEOUT_MS);
    }

    static CuratorFramework open(World world, String address, int sessionTimeoutMs) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
            .connectString(address + world.root)
            .sessionTimeoutMs(sessionTimeoutMs)
            .connectionTimeoutMs(CONNECT_TIMEOUT_MS)
            .retryPolicy(new RetryNTimes(50, 100))
            // It would follow /zookeeper/config to an ensemble's servers, past the proxy that a case holds in front.
            .ensembleTracker(false)
            .build();
        client.start();
        world.keep(client);
        Check.that(client.blockUntilConnected(30, TimeUnit.SECONDS), "connected");
        return client;
    }

    /** Runs the body for 0..count-1 on as many threads and throws what any of them threw. */
    static void together(int count, IntFunction<Callable<Void>> body) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(count);
        try {
            List<Future<Void>> results = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                results.add(pool.submit(body.apply(i)));
            }
            for (Future<Void> result : results) {
                result.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }
}
