"""node-zookeeper-client: the JavaScript client."""

import shutil

import toolchain

SUMMARY = "a JavaScript program on node-zookeeper-client 1.1.3"


def prepare(kit):
    node, npm = toolchain.tool("node"), toolchain.tool("npm")
    lock = (kit.source / "package-lock.json").read_text()

    def install(directory):
        toolchain.note(f"npm ci (node: {node})")
        for file in ("package.json", "package-lock.json"):
            shutil.copy(kit.source / file, directory)
        toolchain.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=directory)

    toolchain.once(kit.work("modules"), lock, install)


def run(kit):
    modules = kit.work("modules", "node_modules")
    return kit.run_program([toolchain.tool("node"), kit.source / "main.js"], limit_s=300, NODE_PATH=str(modules))
