package compat;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** What a case has: the server's address, a znode of its own, and handles that are closed afterwards. */
final class World {
    static final int SESSION_TIMEOUT_MS = 20_000;
    private static final String RUN = Long.toHexString(System.currentTimeMillis());

    final String address;
    /** This case's own znode, which exists and is empty. */
    final String root;
    private final List<AutoCloseable> toClose = new ArrayList<>();
    private ZooKeeper main;

    World(String address, String name) {
        this.address = address;
        this.root = "/compat-" + RUN + "-" + name;
    }

    void prepare() throws Exception {
        zk().create(root, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    /** The handle most cases are content with. */
    synchronized ZooKeeper zk() throws Exception {
        if (main == null) {
            main = open();
        }
        return main;
    }

    /** Another handle with a session of its own, connected. */
    ZooKeeper open() throws Exception {
        return open(address, SESSION_TIMEOUT_MS, new Events());
    }

    ZooKeeper open(String connect, int timeoutMs, Events events) throws Exception {
        ZooKeeper handle = keep(new ZooKeeper(connect, timeoutMs, events));
        events.expect(Watcher.Event.KeeperState.SyncConnected);
        return handle;
    }

    /** Closes it when the case is over. */
    synchronized <T extends AutoCloseable> T keep(T thing) {
        toClose.add(thing);
        return thing;
    }

    /** A proxy before the server, which can be cut. */
    Proxy proxy() throws Exception {
        return keep(new Proxy(address));
    }

    String path(String name) {
        return root + "/" + name;
    }

    /** Creates a persistent node below the case's own and returns its path. */
    String node(String name, String data) throws Exception {
        return zk().create(path(name), data.getBytes(StandardCharsets.UTF_8), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    /** Tells the control port of compat/run, which starts and kills the server. */
    static void control(String word) throws Exception {
        String[] address = controlAddress().split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            socket.getOutputStream().write((word + "\n").getBytes(StandardCharsets.UTF_8));
            String answer = new BufferedReader(new InputStreamReader(socket.getInputStream())).readLine();
            Check.same("ok", answer);
        }
    }

    static String controlAddress() throws Harness.Skip {
        String address = System.getenv("COMPAT_CONTROL");
        if (address == null || address.isEmpty()) {
            throw new Harness.Skip("needs the server of compat/run and its control port");
        }
        return address;
    }

    synchronized void close() {
        try (ZooKeeper broom = new ZooKeeper(address, SESSION_TIMEOUT_MS, null)) {
            for (int i = toClose.size() - 1; i >= 0; i--) {
                try {
                    toClose.get(i).close();
                } catch (Exception already) {
                    System.err.println("closing: " + already);
                }
            }
            ZKUtil.deleteRecursive(broom, root, 500);
        } catch (KeeperException.NoNodeException gone) {
            // The case has tidied up.
        } catch (Exception problem) {
            System.err.println("left " + root + ": " + problem);
        }
    }
}
