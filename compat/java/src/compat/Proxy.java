package compat;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/** Forwards loopback connections until it is told not to: to the server, or to the servers of an ensemble in turn. */
final class Proxy implements AutoCloseable {
    private final String[] targets;
    private int next;
    private final ServerSocket listener;
    private final List<Socket> sockets = new ArrayList<>();
    private boolean refusing;

    Proxy(String target) throws IOException {
        targets = target.split(",");
        listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        start(this::accept);
    }

    String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    /** Closes every connection; new ones are welcome. */
    synchronized void cut() {
        for (Socket socket : sockets) {
            shut(socket);
        }
        sockets.clear();
    }

    /** Closes every connection, and new ones at once. */
    synchronized void refuse() {
        refusing = true;
        cut();
    }

    /** The end of {@link #refuse}. */
    synchronized void welcome() {
        refusing = false;
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }

    private void accept() {
        while (true) {
            Socket client;
            try {
                client = listener.accept();
            } catch (IOException closed) {
                return;
            }
            synchronized (this) {
                if (refusing) {
                    shut(client);
                    continue;
                }
                try {
                    Socket server = reach();
                    client.setTcpNoDelay(true);
                    server.setTcpNoDelay(true);
                    sockets.add(client);
                    sockets.add(server);
                    start(() -> forward(client, server));
                    start(() -> forward(server, client));
                } catch (IOException down) {
                    shut(client);
                }
            }
        }
    }

    /** A connection to the next server that listens. */
    private Socket reach() throws IOException {
        IOException down = null;
        for (int attempt = 0; attempt < targets.length; attempt++) {
            String target = targets[next++ % targets.length];
            int colon = target.lastIndexOf(':');
            try {
                return new Socket(target.substring(0, colon), Integer.parseInt(target.substring(colon + 1)));
            } catch (IOException problem) {
                down = problem;
            }
        }
        throw down;
    }

    private static void forward(Socket from, Socket to) {
        try {
            from.getInputStream().transferTo(to.getOutputStream());
        } catch (IOException ended) {
            // Either side went away; so does the other.
        }
        shut(from);
        shut(to);
    }

    private static void shut(Socket socket) {
        try {
            socket.close();
        } catch (IOException already) {
            // It is closed.
        }
    }

    private static void start(Runnable body) {
        Thread thread = new Thread(body, "proxy");
        thread.setDaemon(true);
        thread.start();
    }
}
