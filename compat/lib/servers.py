"""The server under test: one configuration file, two programs that read it."""

import os
import shutil
import signal
import socket
import subprocess
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
    """One server process on a free loopback port with its own fresh directory."""

    def __init__(self, kind, directory):
        self.kind = kind
        self.directory = Path(directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        (self.directory / "data").mkdir(parents=True)
        (self.port,) = free_ports()
        self.config_file = self.directory / "zoo.cfg"
        self.log_file = self.directory / "server.log"
        settings = dict(SETTINGS, **JVM_ONLY_SETTINGS, dataDir=self.directory / "data", clientPort=self.port)
        self.config_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.command = command(kind, self.config_file)
        self.process = None

    @property
    def address(self):
        """`host:port` of the client port."""
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts the process and returns once it serves."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
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
