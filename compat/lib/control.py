"""What a case may do to its own world: a proxy in front of the server that can be cut, and the server's life.

In front of an ensemble, every connection through the proxy goes to the next server in turn, so that a session that
reconnects moves; and `kill`, `start` and `restart` mean all servers at once.

A program under test connects to the control port, writes one word and a newline, and reads `ok` or `error <text>`.
Every language can do that, so no client needs hooks of its own to lose a connection:

    cut       closes every connection that goes through the proxy
    refuse    cut, and close new connections at once until `accept`
    stall     forward no more bytes in either direction until `accept` (a silent network, not a closed one)
    accept    back to normal
    kill      kill -9 the server
    start     start it again on the same data directory and port, and wait until it serves
    restart   refuse, kill, start, accept: clients behind the proxy only ever reach a server that serves
"""

import itertools
import socket
import threading


class Proxy:
    """Forwards loopback connections to the client port of a server, each to the next if there are several."""

    def __init__(self, ports):
        self.turns = itertools.cycle(ports)
        self.attempts = len(ports)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.lock = threading.Lock()
        self.sockets = set()
        self.refusing = False
        self.flowing = threading.Event()
        self.flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        """`host:port` to connect to instead of the server."""
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def cut(self):
        """Closes every connection."""
        with self.lock:
            victims, self.sockets = self.sockets, set()
        for victim in victims:
            _shut(victim)

    def refuse(self):
        """Closes every connection and every new one."""
        self.refusing = True
        self.cut()

    def stall(self):
        """Holds all bytes back."""
        self.flowing.clear()

    def accept(self):
        """Forwards again."""
        self.refusing = False
        self.flowing.set()

    def close(self):
        """Ends the proxy."""
        self.accept()
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = self._reach()
            if server is None:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.sockets |= {client, server}
            if self.refusing:
                self.cut()
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _reach(self):
        """A connection to the next server that listens, or None."""
        for port in itertools.islice(self.turns, self.attempts):
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=10)
            except OSError:
                continue
        return None

    def _forward(self, source, sink):
        try:
            while part := source.recv(1 << 16):
                self.flowing.wait()
                sink.sendall(part)
        except OSError:
            pass
        _shut(source)
        _shut(sink)
        with self.lock:
            self.sockets -= {source, sink}


def _shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()


class Control:
    """The control port of one server and its proxy."""

    def __init__(self, server):
        self.proxy = Proxy(server.ports)
        self.words = {
            "cut": self.proxy.cut,
            "refuse": self.proxy.refuse,
            "stall": self.proxy.stall,
            "accept": self.proxy.accept,
            "kill": server.kill,
            "start": server.start,
            "restart": lambda: (self.proxy.refuse(), server.kill(), server.start(), self.proxy.accept()),
        }
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        """`host:port` of the control port."""
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def close(self):
        """Ends the control port and the proxy."""
        self.listener.close()
        self.proxy.close()

    def _serve(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller):
        with caller, caller.makefile("rw") as lines:
            word = lines.readline().strip()
            action = self.words.get(word)
            if action is None:
                answer = f"error unknown word {word!r}"
            else:
                try:
                    with self.lock:
                        action()
                    answer = "ok"
                except Exception as error:  # the caller must hear of it, whatever it is
                    answer = "error " + " ".join(str(error).split())
            try:
                lines.write(answer + "\n")
                lines.flush()
            except OSError:
                pass
