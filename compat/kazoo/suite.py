"""kazoo's own test suite, from its source archive, on its threading handler, with one server or several.

kazoo's harness starts its servers itself, by calling `java`. `shim/java` (lib/stand_in.py) starts the server under test
instead, on the configuration the harness wrote, so their files stay as they are.
"""

import contextlib
import fnmatch
import os
import shutil
import signal
import subprocess
import tarfile

import groups
import outcomes
import stand_in
import toolchain
from servers import free_ports

SUMMARY = "kazoo 2.11's own test suite (Python, threading handler)"
NEEDS_SERVER = False

VERSION = "2.11.0"
CASE_LIMIT_S = 120
LIMIT_S = {False: 1500, True: 240}

# About half a minute each on two cores, and between them every kind of request, watch, recipe and reconnect.
QUICK = ["test_client.py", "test_connection.py", "test_lock.py", "test_watchers.py", "test_cache.py"]


def prepare(kit):
    environment = toolchain.python_environment("kazoo/python", kit.source / "requirements.txt")

    def unpack(directory):
        toolchain.note(f"pip: kazoo {VERSION} (source archive)")
        pip = [environment / "bin" / "python", "-m", "pip", "-q"]
        toolchain.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", directory, f"kazoo=={VERSION}"])
        with tarfile.open(directory / f"kazoo-{VERSION}.tar.gz") as archive:
            # Python older than 3.11.4 has no filters.
            archive.extractall(directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        toolchain.run([*pip, "install", "--no-deps", "--force-reinstall", directory / f"kazoo-{VERSION}"])

    toolchain.once(kit.work("source"), VERSION + (environment.parent / ".compat-stamp").read_text(), unpack)


def run(kit):
    source = kit.work("source", f"kazoo-{VERSION}")
    junit = kit.log_file("xml")
    junit.unlink(missing_ok=True)
    scratch = kit.work(f"tmp.{kit.mode}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    # Each server takes five adjacent ports (client, election, leader, admin, TLS client), and is ten from the next.
    ports = free_ports(10 * (kit.servers - 1) + 5)
    environment = dict(
        os.environ,
        **stand_in.environment(kit, kit.source / "shim"),
        TMPDIR=str(scratch),
        ZOOKEEPER_VERSION=toolchain.ZOOKEEPER_VERSION,
        ZOOKEEPER_CLASSPATH="the stand-in knows",
        ZOOKEEPER_CLUSTER_SIZE=str(kit.servers),
        ZOOKEEPER_PORT_OFFSET=str(ports[0]),
        PYTHONDONTWRITEBYTECODE="1",
    )
    # A listed skip is never run: it would only wait for a server that is not there.
    skipped, deselect = [], []
    for case in collect(kit, source, environment):
        line = next((l for l in kit.known if l.outcome == outcomes.SKIPPED and case_matches(case, l)), None)
        if line is not None:
            skipped.append(outcomes.Case(case_name(case), outcomes.SKIPPED, line.reason))
            deselect.append(f"--deselect={case}")
    arguments = [
        environment_python(kit),
        *("-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no"),
        *(f"--timeout={CASE_LIMIT_S}", "--timeout-method=signal", f"--junitxml={junit}"),
        *deselect,
        *selection(kit),
    ]
    options = dict(cwd=source, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    with open(kit.log_file(), "w") as log, groups.started(arguments, stdout=log, **options) as suite:
        try:
            code = suite.wait(LIMIT_S[kit.quick])
        except subprocess.TimeoutExpired:
            # SIGINT lets pytest write what it has.
            suite.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                suite.wait(30)
            code = f"ended after {LIMIT_S[kit.quick]} s"
    cases = outcomes.from_junit(junit, "kazoo.tests.") if junit.is_file() else []
    if code not in (0, 1):
        cases.append(outcomes.Case("(program)", outcomes.FAILED, f"exit status {code}: see {kit.log_file()}"))
    shutil.rmtree(scratch, ignore_errors=True)
    return cases + skipped


def selection(kit):
    """What pytest is to run, relative to the source archive."""
    return [f"kazoo/tests/{file}" for file in QUICK] if kit.quick else ["kazoo/tests"]


def environment_python(kit):
    """The interpreter of the suite's virtual environment."""
    return str(kit.work("python", "venv", "bin", "python"))


def collect(kit, source, environment):
    """pytest's ids of all selected cases."""
    arguments = [environment_python(kit), "-m", "pytest", "-qq", "--collect-only", "-p", "no:cacheprovider", "--color=no"]
    listing = toolchain.run([*arguments, *selection(kit)], cwd=source, env=environment)
    return [line for line in listing.splitlines() if "::" in line and not line.startswith(" ")]


def case_name(identity):
    """`kazoo/tests/test_x.py::TestY::test_z` as `test_x.TestY.test_z`, the name JUnit gives it."""
    return identity.removeprefix("kazoo/tests/").replace(".py::", ".").replace("::", ".")


def case_matches(identity, line):
    """Whether a known line names this case."""
    return fnmatch.fnmatchcase(case_name(identity), line.pattern)
