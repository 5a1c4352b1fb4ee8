"""Suites: a directory of `compat/` with a `suite.py` is one.

`suite.py` offers

    SUMMARY           one line for --list
    prepare(kit)      optional: install and build, before any server runs
    run(kit)          run the cases, return a list of `outcomes.Case`
    NEEDS_SERVER      optional, default True: start a server and its control port for this suite
"""

import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

import known
import outcomes
import toolchain
from control import Control
from servers import Ensemble, Killer, Server


def names():
    """All suites, in the order they are run."""
    return sorted(file.parent.name for file in toolchain.COMPAT.glob("*/suite.py"))


def load(name):
    """The suite's module."""
    specification = importlib.util.spec_from_file_location(f"suite_{name}", toolchain.COMPAT / name / "suite.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Kit:
    """What a suite gets to work with."""

    def __init__(self, suite, server_kind, quick=False, record=False, servers=1, kill_s=None):
        self.suite = suite
        self.server_kind = server_kind
        self.servers = servers
        self.kill_s = kill_s
        # Names what is known, and the logs.
        self.mode = server_kind if servers == 1 else f"{server_kind}-{servers}"
        self.quick = quick
        self.record = record
        self.source = toolchain.COMPAT / suite
        self.known = (known.read(suite, "kill") if kill_s else []) + known.read(suite, self.mode)
        self.server = None
        self.control = None

    def work(self, *parts):
        """A path below this suite's directory in `.work`, which exists."""
        base = toolchain.WORK / self.suite
        base.mkdir(parents=True, exist_ok=True)
        return base.joinpath(*parts)

    def log_file(self, extension="log"):
        """Where the output of this suite on this server goes."""
        directory = toolchain.WORK / "logs"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{self.suite}.{self.mode}{'-kill' if self.kill_s else ''}.{extension}"

    def environment(self, **more):
        """The environment of a program with cases: where the server, the proxy and the control port are."""
        return dict(
            os.environ,
            COMPAT_SERVER_KIND=self.server_kind,
            COMPAT_SERVER=self.server.address,
            COMPAT_PROXY=self.control.proxy.address,
            COMPAT_CONTROL=self.control.address,
            COMPAT_QUICK="1" if self.quick else "",
            **more,
        )

    def run_program(self, arguments, limit_s=600, silence_s=180, cwd=None, **environment):
        """Runs a program that reports its cases in lines; see `outcomes.run_program`."""
        return outcomes.run_program(
            arguments, self.environment(**environment), self.log_file(), limit_s, silence_s=silence_s, cwd=cwd
        )


class Result:
    """The outcome of a suite on a server."""

    def __init__(self, suite, cases, surprises, seconds):
        self.suite = suite
        self.cases = cases
        self.surprises = surprises
        self.seconds = seconds

    def count(self, outcome):
        """Number of cases with that outcome."""
        return sum(case.outcome == outcome for case in self.cases)


def run(name, server_kind, keep=False, **options):
    """Runs one suite against a fresh server or ensemble; `options` are those of `Kit`."""
    started = time.monotonic()
    kit = Kit(name, server_kind, **options)
    try:
        module = load(name)
        if hasattr(module, "prepare"):
            module.prepare(kit)
        started = time.monotonic()
        cases = _run_with_server(module, kit, keep)
    except toolchain.SetupError as error:
        return Result(name, [], [f"set-up: {error}"], time.monotonic() - started)
    differences = known.surprises(cases, kit.known, whole=not (kit.quick or kit.kill_s))
    if not any(case.outcome == outcomes.PASSED for case in cases):
        differences.append("no case passed")
    return Result(name, cases, differences, time.monotonic() - started)


def _run_with_server(module, kit, keep):
    if not getattr(module, "NEEDS_SERVER", True):
        return module.run(kit)
    directory = toolchain.WORK / "servers" / f"{kit.suite}.{kit.mode}"
    ensemble = kit.servers > 1
    kit.server = Ensemble(kit.server_kind, directory, kit.servers) if ensemble else Server(kit.server_kind, directory)
    killer = None
    try:
        kit.server.start()
        kit.control = Control(kit.server)
        if kit.kill_s:
            killer = Killer(kit.server, kit.kill_s, kit.control.lock)
        cases = module.run(kit)
        if killer is not None:
            killer.close()
            cases = [outcomes.disturbed(case) for case in cases]
            came_back = outcomes.FAILED if killer.problem or not killer.kills else outcomes.PASSED
            cases.append(outcomes.Case("(kills)", came_back, killer.problem or f"{killer.kills} kills"))
        if not kit.server.running:
            cases.append(outcomes.Case("(server)", outcomes.FAILED, "the server was gone at the end"))
        return cases
    finally:
        if killer is not None:
            killer.close()
        if kit.control is not None:
            kit.control.close()
        kit.server.stop()
        if ensemble:
            kit.server.gather_logs()
        shutil.copyfile(kit.server.log_file, kit.log_file("server.log"))
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
