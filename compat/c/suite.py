"""The C client, as Debian packages it: 3.8.0 on Debian 12."""

import toolchain

SUMMARY = "a C program on libzookeeper_mt"


def prepare(kit):
    compiler = toolchain.tool("gcc")
    if not toolchain.has_debian_package("libzookeeper-mt-dev"):
        toolchain.apt_get("libzookeeper-mt-dev", "libc6-dev")
    sources = sorted(kit.source.glob("*.c"))
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-DTHREADED"]
    toolchain.run([compiler, *flags, *sources, "-o", kit.work("cases"), "-lzookeeper_mt", "-lpthread"], cwd=kit.source)


def run(kit):
    return kit.run_program([kit.work("cases")])
