package compat;

import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;

/** A watcher that keeps what it hears, in order. */
final class Events implements Watcher {
    private final LinkedBlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

    @Override
    public void process(WatchedEvent event) {
        queue.add(event);
    }

    /** The next event. */
    WatchedEvent next() throws InterruptedException {
        WatchedEvent event = queue.poll(Check.PATIENCE_MS, TimeUnit.MILLISECONDS);
        Check.that(event != null, "no event came");
        return event;
    }

    /** The next event is about a node. */
    WatchedEvent expect(Event.EventType type, String path) throws InterruptedException {
        WatchedEvent event = next();
        Check.same(type + " " + path, event.getType() + " " + event.getPath());
        Check.same(Event.KeeperState.SyncConnected, event.getState());
        return event;
    }

    /** The next event is about the session. */
    void expect(Event.KeeperState state) throws InterruptedException {
        WatchedEvent event = next();
        Check.same(Event.EventType.None + " " + state, event.getType() + " " + event.getState());
    }

    /** Skips events until one about the session with this state. */
    void await(Event.KeeperState state) throws InterruptedException {
        WatchedEvent event;
        do {
            event = next();
        } while (event.getType() != Event.EventType.None || event.getState() != state);
    }

    /** Nothing has come that was not taken. To be asked after a reply that must have come later. */
    void expectNone() {
        WatchedEvent event = queue.peek();
        Check.that(event == null, "unexpected " + event);
    }
}
