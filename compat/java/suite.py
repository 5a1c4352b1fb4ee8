"""Every call of the ZooKeeper 3.9.5 Java client."""

import toolchain

SUMMARY = "a Java program on the ZooKeeper 3.9.5 client"

# What --quick leaves out: cases that take seconds because the client waits before it reconnects.
SLOW = {"session-many", "session-reconnect-often", "load-through-cuts", "children-large-list", "load-threads-on-one-handle"}


def prepare(kit):
    toolchain.tool("javac")
    toolchain.tool("mvn")
    toolchain.run([kit.source / "run", "--build", kit.work("build")])


def run(kit):
    names = []
    if kit.quick:
        listed = toolchain.run([kit.source / "run", "--list", kit.work("build")]).split()
        names = [name for name in listed if name not in SLOW]
    return kit.run_program([kit.source / "run", kit.server.address, kit.work("build"), *names])
