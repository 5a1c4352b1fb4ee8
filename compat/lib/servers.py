"""The server under test, or an ensemble of them: one configuration file, two programs that read it."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import toolchain

SERVERS = ("ostler", "zookeeper")

# What both servers read. `minSessionTimeout` is low so that a case can wait for an expiry.
SETTINGS = {
    "tickTime": "500",
    "minSessionTimeout": "1000",
    "maxSessionTimeout": "60000",
    "clientPortAddress": "127.0.0.1",
    "maxClientCnxns": "0",
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "*",
    "extendedTypesEnabled": "true",
    "reconfigEnabled": "true",
    # The super user's password is "test".
    "DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
}

# Apache ZooKeeper takes these only as JVM properties without its prefix; Ostler takes them in the file. In the file
# they mean nothing to ZooKeeper, so one file serves both.
JVM_ONLY_SETTINGS = {
    "readonlymode.enabled": "true",
    "znode.container.checkIntervalMs": "500",
}

# What an ensemble needs besides; in units of tickTime.
ENSEMBLE_SETTINGS = {"initLimit": "20", "syncLimit": "10"}

START_LIMIT_S = 60
STOP_LIMIT_S = 20


def free_ports(count=1):
    """Loopback TCP ports nobody listens on now, lowest first and adjacent, below the kernel's ephemeral range."""
    for base in range(20000 + (os.getpid() * 37) % 8000, 32000, max(count, 1)):
        held = []
        try:
            for port in range(base, base + count):
                listener = socket.socket()
                held.append(listener)
                listener.bind(("127.0.0.1", port))
            return list(range(base, base + count))
        except OSError:
            continue
        finally:
            for listener in held:
                listener.close()
    raise toolchain.SetupError(f"no {count} adjacent free ports between 20000 and 32000")


def command(kind, config_file, jvm_properties=None):
    """The command line that serves a configuration file."""
    if kind == "ostler":
        return [toolchain.ostler_binary(), "serve", str(config_file)]
    properties = dict(JVM_ONLY_SETTINGS, **(jvm_properties or {}))
    return [
        toolchain.tool("java"),
        "-Xmx768m",
        "-XX:+UseSerialGC",
        "-Dfile.encoding=UTF-8",
        *(f"-D{key}={value}" for key, value in properties.items()),
        "-cp",
        toolchain.zookeeper_classpath(),
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        str(config_file),
    ]


class Server:
    """One server process on a free loopback port with its own fresh directory.

    With a `port`, `myid` and `more` settings it is a member of an ensemble.
    """

    def __init__(self, kind, directory, port=None, myid=None, more=None):
        self.kind = kind
        self.myid = myid
        self.directory = Path(directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        (self.directory / "data").mkdir(parents=True)
        if myid is not None:
            (self.directory / "data" / "myid").write_text(f"{myid}\n")
        self.port = port or free_ports()[0]
        self.config_file = self.directory / "zoo.cfg"
        self.log_file = self.directory / "server.log"
        settings = dict(SETTINGS, **JVM_ONLY_SETTINGS, dataDir=self.directory / "data", clientPort=self.port, **(more or {}))
        self.config_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.command = command(kind, self.config_file)
        self.process = None

    @property
    def address(self):
        """`host:port` of the client port."""
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self):
        """The client ports: one."""
        return [self.port]

    @property
    def running(self):
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self):
        """Starts the process and returns once it serves."""
        self.launch()
        self.wait_until_it_serves()

    def launch(self):
        """Starts the process."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_it_serves(self):
        """Returns once the launched process serves."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self.serves():
            if self.process.poll() is not None:
                raise toolchain.SetupError(f"the server ended at start:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise toolchain.SetupError(f"the server did not serve within {START_LIMIT_S} s:\n{self.tail()}")
            time.sleep(0.05)

    def serves(self):
        """Whether `srvr` is answered with a mode, as monitoring would ask."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"srvr")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
            return b"Mode:" in answer
        except OSError:
            return False

    def kill(self):
        """kill -9, as a power cut of the process."""
        self._end(signal.SIGKILL)

    def stop(self):
        """Asks with SIGTERM, insists with SIGKILL."""
        self._end(signal.SIGTERM)

    def _end(self, number):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def tail(self, lines=30):
        """The end of the server's log."""
        if not self.log_file.is_file():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


class Ensemble:
    """Servers that replicate each other. Offers what `Server` offers; `kill` and `start` mean all of them."""

    def __init__(self, kind, directory, count):
        self.directory = Path(directory)
        self.log_file = self.directory / "server.log"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        ports = free_ports(3 * count)
        self.ports = ports[:count]
        members = dict(ENSEMBLE_SETTINGS)
        for index, port in enumerate(self.ports):
            quorum, election = ports[count + index], ports[2 * count + index]
            members[f"server.{index + 1}"] = f"127.0.0.1:{quorum}:{election}:participant;127.0.0.1:{port}"
        # The client's port and address are in its server line.
        self.servers = [
            Server(kind, self.directory / f"server-{index + 1}", port, index + 1, members)
            for index, port in enumerate(self.ports)
        ]
        self.killer = None

    @property
    def address(self):
        """The connection string of all servers."""
        return ",".join(server.address for server in self.servers)

    @property
    def running(self):
        """Whether every process is there."""
        return all(server.running for server in self.servers)

    def start(self):
        """Starts all, and returns once each of them serves."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_until_it_serves()

    def kill(self):
        """kill -9 for all of them, as a power cut of the house."""
        for server in self.servers:
            server.kill()

    def stop(self):
        """Asks all with SIGTERM, insists with SIGKILL."""
        for server in self.servers:
            if server.running:
                server.process.terminate()
        for server in self.servers:
            server.stop()

    def tail(self, lines=30):
        """The end of every log."""
        return "\n".join(f"server {server.myid}:\n{server.tail(lines)}" for server in self.servers)

    def gather_logs(self):
        """Writes the logs of all servers into `log_file`, one behind the other."""
        self.log_file.write_text(self.tail(lines=1_000_000))


class Killer:
    """Kills a random server of an ensemble with -9 every so often, and starts it again: never more than one is down.

    `lock` is held while a server is down; whoever kills or starts servers for another reason takes it too.
    """

    def __init__(self, ensemble, seconds, lock):
        self.ensemble = ensemble
        self.seconds = seconds
        self.lock = lock
        self.kills = 0
        self.problem = ""
        self.random = random.Random()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        """Ends the killing; every server serves again when this returns, or `problem` says why not."""
        self.ending.set()
        self.thread.join()

    def _run(self):
        # The first one soon, so that a short run has one too.
        pause = min(self.seconds, 1)
        while not self.ending.wait(pause):
            pause = self.seconds
            with self.lock:
                victim = self.random.choice([server for server in self.ensemble.servers if server.running] or [None])
                if victim is None:
                    continue
                victim.kill()
                self.kills += 1
                print(f"  .. kill -9: server {victim.myid}", file=sys.stderr, flush=True)
                # Long enough for the others to notice, were it only by the clock.
                self.ending.wait(1)
                try:
                    victim.start()
                except toolchain.SetupError as error:
                    self.problem = f"server {victim.myid} did not come back: {error}"
                    return
