"""Stands in for `java` or `zkServer.sh` when a client's own tests start a server.

The last argument is the configuration file their harness wrote; its system properties come as `-D` arguments or in
`SERVER_JVMFLAGS`. Apache ZooKeeper gets both as they are. Ostler gets the file without the lines that need TLS or SASL
(later issues; it would rightly refuse them), and the properties as lines of the file.

This process becomes the server, so that the harness's signals reach it.
"""

import os
import sys
from pathlib import Path

import servers

# kazoo's harness gives every server a TLS port, Netty and the SASL provider, whatever the test is about.
NOT_YET_IN_OSTLER = ("secureClientPort", "ssl.", "authProvider.", "serverCnxnFactory")
# Properties that are about Java and its logging, not about the server.
ABOUT_THE_JVM = ("file.", "java.", "log4j.", "zookeeper.log.", "zookeeper.root.", "sun.")
# What Ostler refuses and these tests do not depend on: 3.5.3's encoding of TTL nodes, which go-zookeeper always sets.
REFUSED_BY_OSTLER = ("zookeeper.emulate353TTLNodes",)
# Stands where the configuration file belongs in COMPAT_STAND_IN_COMMAND.
PLACEHOLDER = "CONFIG"


def environment(kit, directory):
    """Variables that make the tests below find the stand-in in `directory` and let it find its server."""
    log = kit.log_file("stand-in.log")
    log.unlink(missing_ok=True)
    return dict(
        PATH=os.pathsep.join([str(directory), os.environ["PATH"]]),
        COMPAT_STAND_IN=f"{sys.executable} {__file__}",
        COMPAT_STAND_IN_SERVER=kit.server_kind,
        COMPAT_STAND_IN_COMMAND="\x1f".join(servers.command(kit.server_kind, PLACEHOLDER)),
        COMPAT_STAND_IN_LOG=str(log),
    )


def main(arguments):
    config = Path(arguments[-1])
    flags = arguments + os.environ.get("SERVER_JVMFLAGS", "").split()
    properties = [flag.removeprefix("-D").partition("=") for flag in flags if flag.startswith("-D")]
    line = os.environ["COMPAT_STAND_IN_COMMAND"].split("\x1f")
    if os.environ["COMPAT_STAND_IN_SERVER"] == "ostler":
        settings = [
            text for text in config.read_text().splitlines() if not text.strip().startswith(NOT_YET_IN_OSTLER)
        ]
        settings += [
            f"{key.removeprefix('zookeeper.')}={value}"
            for key, _, value in properties
            if not key.startswith(ABOUT_THE_JVM + REFUSED_BY_OSTLER)
        ]
        config = config.with_name("ostler.cfg")
        config.write_text("\n".join(settings) + "\n")
    else:
        line[1:1] = [f"-D{key}={value}" for key, _, value in properties if not key.startswith("log4j.")]
    line[line.index(PLACEHOLDER)] = str(config)
    log = os.open(os.environ["COMPAT_STAND_IN_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.execv(line[0], line)


if __name__ == "__main__":
    main(sys.argv[1:])
