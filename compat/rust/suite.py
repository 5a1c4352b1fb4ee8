"""The `zookeeper-client` crate: the Rust client."""

import os

import toolchain

SUMMARY = "a Rust program on the zookeeper-client crate 0.11.2"


def prepare(kit):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(kit.work("target")))
    toolchain.note("cargo build: compat/rust")
    toolchain.run([toolchain.tool("cargo"), "build", "--locked", "--quiet"], cwd=kit.source, env=environment)


def run(kit):
    return kit.run_program([kit.work("target", "debug", "ostler-compat-rust")], limit_s=300)
