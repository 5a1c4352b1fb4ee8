"""Curator's recipes on the ZooKeeper 3.9.5 client."""

import toolchain

SUMMARY = "Apache Curator 5.9.0: locks, leaders, caches, counters, queues, service discovery"


def prepare(kit):
    toolchain.tool("javac")
    toolchain.tool("mvn")
    toolchain.run([kit.source / "run", "--build", kit.work("build")])


def run(kit):
    return kit.run_program([kit.source / "run", kit.server.address, kit.work("build")])
