"""Stands in for `java` when kazoo's harness starts a server: the last argument is the configuration it wrote.

Apache ZooKeeper gets that file and the harness's system properties as they are. Ostler gets the file without the
lines that need TLS or SASL (later issues; it would rightly refuse them), and the properties as lines of the file.
"""

import os
import sys
from pathlib import Path

# The harness gives every server a TLS port, Netty and the SASL provider, whatever the test is about.
NOT_YET_IN_OSTLER = ("secureClientPort", "ssl.", "authProvider.", "serverCnxnFactory")
# Properties of the harness that are about Java and its logging, not about the server.
ABOUT_THE_JVM = ("file.", "java.", "log4j.", "zookeeper.log.", "zookeeper.root.", "sun.")


def main(arguments):
    config = Path(arguments[-1])
    properties = [a.removeprefix("-D").partition("=") for a in arguments if a.startswith("-D")]
    line = os.environ["COMPAT_SHIM_COMMAND"].split("\x1f")
    if os.environ["COMPAT_SHIM_SERVER"] == "ostler":
        settings = [
            text for text in config.read_text().splitlines() if not text.strip().startswith(NOT_YET_IN_OSTLER)
        ]
        settings += [
            f"{key.removeprefix('zookeeper.')}={value}"
            for key, _, value in properties
            if not key.startswith(ABOUT_THE_JVM)
        ]
        config = config.with_name("ostler.cfg")
        config.write_text("\n".join(settings) + "\n")
    else:
        given = [f"-D{key}={value}" for key, _, value in properties if not key.startswith("log4j.")]
        line[1:1] = given
    line[line.index("CONFIG")] = str(config)
    log = os.open(os.environ["COMPAT_SHIM_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.execv(line[0], line)


main(sys.argv[1:])
