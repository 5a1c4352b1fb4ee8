"""go-zookeeper/zk: a program of cases, and the package's own tests.

Its tests start servers by calling `zkServer.sh`; `shim/zkServer.sh` (lib/stand_in.py) starts the server under test
instead. Those results are named `own.Test...`. Their copy has one change: their harness asks `srvr` whether a server is
up, with a pattern that cannot read the build date in the form Apache ZooKeeper has printed since 3.6.
"""

import json
import os
import shutil
import subprocess

import groups
import outcomes
import stand_in
import toolchain

SUMMARY = "go-zookeeper/zk 1.0.4: a program of cases and its own tests"

MODULE = "github.com/go-zookeeper/zk"
OWN_LIMIT_S = 500

# In flw.go: the build date of `srvr`, as the package expects it and as ZooKeeper 3.9 prints it.
OLD_DATE = (r"(\d\d/\d\d/\d\d\d\d ", '"01/02/2006 15:04 MST"')
NEW_DATE = (r"(\d\d\d\d-\d\d-\d\d ", '"2006-01-02 15:04 MST"')


def prepare(kit):
    go = toolchain.tool("go")
    toolchain.run([go, "build", "-o", kit.work("cases"), "."], cwd=kit.source)
    found = json.loads(toolchain.run([go, "list", "-m", "-json", MODULE], cwd=kit.source))
    own = kit.work("own")
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(found["Dir"], own)
    for directory, _, files in os.walk(own):
        for path in [directory, *(os.path.join(directory, file) for file in files)]:
            os.chmod(path, 0o755 if path == directory else 0o644)
    source = (own / "flw.go").read_text()
    for old, new in zip(OLD_DATE, NEW_DATE):
        if old not in source:
            raise toolchain.SetupError(f"flw.go does not hold {old}")
        source = source.replace(old, new)
    (own / "flw.go").write_text(source)
    toolchain.run([go, "test", "-c", "-o", kit.work("own.test"), "."], cwd=own)


def run(kit):
    cases = kit.run_program([kit.work("cases")], limit_s=400)
    return cases if kit.quick else cases + own_tests(kit)


def own_tests(kit):
    """The package's own tests that the known list does not skip."""
    go, binary = toolchain.tool("go"), kit.work("own.test")
    names = toolchain.run([binary, "-test.list", "^Test"], cwd=kit.work("own")).split()
    skips = [line for line in kit.known if line.outcome == outcomes.SKIPPED and line.pattern.startswith("own.")]
    cases, wanted = [], []
    for name in names:
        line = next((line for line in skips if line.pattern == f"own.{name}"), None)
        if line is None:
            wanted.append(name)
        else:
            cases.append(outcomes.Case(f"own.{name}", outcomes.SKIPPED, line.reason))
    environment = dict(
        os.environ,
        **stand_in.environment(kit, kit.source / "shim"),
        # What makes its reconfig tests run.
        ZK_VERSION=toolchain.ZOOKEEPER_VERSION,
        ZOOKEEPER_BIN_PATH=str(kit.source / "shim"),
        TMPDIR=str(kit.work()),
    )
    arguments = [
        *(go, "tool", "test2json", "-t", binary),
        *("-test.v", f"-test.timeout={OWN_LIMIT_S}s", f"-test.run=^({'|'.join(wanted)})$"),
    ]
    options = dict(cwd=kit.work("own"), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with open(kit.log_file("own.log"), "w") as log, groups.started(arguments, stderr=log, **options) as tests:
        events = tests.stdout.read()
        log.write(events)
    outcome = {"pass": outcomes.PASSED, "fail": outcomes.FAILED, "skip": outcomes.SKIPPED}
    lines, results = {}, {}
    for event in map(json.loads, filter(None, events.splitlines())):
        test = event.get("Test")
        if test is None or "/" in test:
            continue
        if event["Action"] == "output" and ".go:" in event["Output"]:
            lines.setdefault(test, []).append(event["Output"].strip())
        elif event["Action"] in outcome:
            results[test] = outcome[event["Action"]]
    for name in wanted:
        # A test that never ended, because of a panic or the time limit, failed.
        result = results.get(name, outcomes.FAILED)
        detail = "" if result == outcomes.PASSED else " ".join(lines.get(name, ["did not end"]))[-300:]
        cases.append(outcomes.Case(f"own.{name}", result, detail))
    return cases
