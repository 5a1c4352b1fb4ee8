package compat;

import static compat.FrameworkCases.bytes;

import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.state.ConnectionState;

/** Queues. */
final class QueueCases {
    private QueueCases() {}

    static void addTo(Harness harness) {
        harness.add("queue-order", QueueCases::order);
        harness.add("queue-two-consumers", QueueCases::twoConsumers);
        harness.add("queue-priority", QueueCases::priority);
        harness.add("queue-ids", QueueCases::ids);
        harness.add("queue-delay", QueueCases::delay);
        harness.add("queue-simple", QueueCases::simple);
    }

    private static final QueueSerializer<String> STRINGS = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] bytes) {
            return new String(bytes);
        }
    };

    private static QueueConsumer<String> into(BlockingQueue<String> items) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                items.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        };
    }

    private static void next(String expected, BlockingQueue<String> items) throws Exception {
        Check.same(expected, items.poll(Check.PATIENCE_MS, TimeUnit.MILLISECONDS));
    }

    private static void order(World world) throws Exception {
        BlockingQueue<String> items = new LinkedBlockingQueue<>();
        DistributedQueue<String> producer = world.keep(QueueBuilder.builder(Curators.open(world), null, STRINGS, "/queue").buildQueue());
        producer.start();
        for (int i = 0; i < 50; i++) {
            producer.put("item " + i);
        }
        Check.that(producer.flushPuts(30, TimeUnit.SECONDS), "all are in");
        DistributedQueue<String> consumer = world.keep(QueueBuilder.builder(Curators.open(world), into(items), STRINGS, "/queue").buildQueue());
        consumer.start();
        for (int i = 0; i < 50; i++) {
            next("item " + i, items);
        }
    }

    private static void twoConsumers(World world) throws Exception {
        BlockingQueue<String> items = new LinkedBlockingQueue<>();
        for (int i = 0; i < 2; i++) {
            DistributedQueue<String> consumer = world.keep(
                QueueBuilder.builder(Curators.open(world), into(items), STRINGS, "/queue").lockPath("/locks").buildQueue());
            consumer.start();
        }
        DistributedQueue<String> producer = world.keep(QueueBuilder.builder(Curators.open(world), null, STRINGS, "/queue").buildQueue());
        producer.start();
        for (int i = 0; i < 60; i++) {
            producer.put("item " + i);
        }
        Check.eventually("all arrive", () -> items.size() >= 60);
        Check.same(60, new TreeSet<>(items).size());
        Check.same(60, items.size());
    }

    private static void priority(World world) throws Exception {
        BlockingQueue<String> items = new LinkedBlockingQueue<>();
        DistributedPriorityQueue<String> producer = world.keep(
            QueueBuilder.builder(Curators.open(world), null, STRINGS, "/queue").buildPriorityQueue(0));
        producer.start();
        for (int priority : new int[] {5, 1, 9, 3}) {
            producer.put("priority " + priority, priority);
        }
        Check.that(producer.flushPuts(30, TimeUnit.SECONDS), "all are in");
        DistributedPriorityQueue<String> consumer = world.keep(
            QueueBuilder.builder(Curators.open(world), into(items), STRINGS, "/queue").buildPriorityQueue(0));
        consumer.start();
        for (int priority : new int[] {1, 3, 5, 9}) {
            next("priority " + priority, items);
        }
    }

    private static void ids(World world) throws Exception {
        BlockingQueue<String> items = new LinkedBlockingQueue<>();
        DistributedIdQueue<String> producer = world.keep(QueueBuilder.builder(Curators.open(world), null, STRINGS, "/queue").buildIdQueue());
        producer.start();
        for (String id : new String[] {"a", "b", "c"}) {
            producer.put("item " + id, id);
        }
        Check.that(producer.flushPuts(30, TimeUnit.SECONDS), "all are in");
        Check.same(1, producer.remove("b"));
        DistributedIdQueue<String> consumer = world.keep(QueueBuilder.builder(Curators.open(world), into(items), STRINGS, "/queue").buildIdQueue());
        consumer.start();
        next("item a", items);
        next("item c", items);
    }

    private static void delay(World world) throws Exception {
        BlockingQueue<String> items = new LinkedBlockingQueue<>();
        DistributedDelayQueue<String> queue = world.keep(
            QueueBuilder.builder(Curators.open(world), into(items), STRINGS, "/queue").buildDelayQueue());
        queue.start();
        long now = System.currentTimeMillis();
        queue.put("later", now + 800);
        queue.put("sooner", now + 300);
        next("sooner", items);
        next("later", items);
        Check.that(System.currentTimeMillis() >= now + 800, "not before its time");
    }

    private static void simple(World world) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(Curators.open(world), "/queue");
        SimpleDistributedQueue other = new SimpleDistributedQueue(Curators.open(world), "/queue");
        for (int i = 0; i < 5; i++) {
            Check.that(queue.offer(bytes("" + i)), "offered");
        }
        Check.same(bytes("0"), other.peek());
        for (int i = 0; i < 5; i++) {
            Check.same(bytes("" + i), i % 2 == 0 ? other.take() : queue.poll(5, TimeUnit.SECONDS));
        }
        Check.same(null, other.poll());
        Check.same(null, other.poll(100, TimeUnit.MILLISECONDS));
    }
}
