"""Results of cases, and the two ways programs report them: TAP-like lines and JUnit XML."""

import dataclasses
import re
import subprocess
import threading
import time
import xml.etree.ElementTree

import groups

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# Its client lost the connection to a server that was killed, which is no fault: only with --kill.
DISTURBED = "disturbed"


@dataclasses.dataclass(frozen=True)
class Case:
    """One case: its name (no blanks), what became of it, and why."""

    name: str
    outcome: str
    detail: str = ""


# `ok NAME`, `not ok NAME: detail`, `ok NAME # SKIP reason`, `1..N`. TAP's optional number and dash are accepted.
_RESULT = re.compile(r"(?P<bad>not )?ok(?: \d+)?(?: -)? (?P<name>[^\s:]+):?\s*(?P<detail>.*)")
_SKIP = re.compile(r"# SKIP\s*(.*)")
_PLAN = re.compile(r"1\.\.(\d+)$")


# How the clients say that a connection was lost: Java and Rust, node, C (-4 is its ZCONNECTIONLOSS), Go.
_LOST = re.compile(r"connection ?_?loss|connection closed|connection lost|no server|disconnected|ZCONNECTIONLOSS|is -4, expected 0", re.IGNORECASE)


def disturbed(case):
    """The case; as disturbed if it failed because its connection was lost."""
    if case.outcome == FAILED and _LOST.search(case.detail):
        return dataclasses.replace(case, outcome=DISTURBED)
    return case


def parse_line(line):
    """The case a line reports, or None."""
    found = _RESULT.match(line)
    if not found:
        return None
    skip = _SKIP.match(found["detail"])
    if skip:
        return Case(found["name"], SKIPPED, skip[1])
    return Case(found["name"], FAILED if found["bad"] else PASSED, found["detail"])


def run_program(arguments, environment, log_file, limit_s, silence_s=180, cwd=None):
    """Runs a program that reports its cases line by line; returns them.

    The program must print its plan, `1..N`. A crash, a hang (`silence_s` without a line, or `limit_s` in all) and
    missing cases are failures of their own, so that nothing can be lost quietly.
    """
    cases, planned, ended = [], None, ""
    started = last_heard = time.monotonic()
    options = dict(env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with open(log_file, "w") as log, groups.started(arguments, stderr=log, errors="replace", **options) as program:
        finished = threading.Event()

        def watchdog():
            nonlocal ended
            while not finished.wait(1):
                now = time.monotonic()
                if now - last_heard > silence_s or now - started > limit_s:
                    ended = f"ended after {now - started:.0f} s, {now - last_heard:.0f} s without a line"
                    program.kill()
                    return

        watching = threading.Thread(target=watchdog, daemon=True)
        watching.start()
        try:
            for line in program.stdout:
                last_heard = time.monotonic()
                log.write(line)
                log.flush()
                if plan := _PLAN.match(line.strip()):
                    planned = int(plan[1])
                elif case := parse_line(line.rstrip("\n")):
                    cases.append(case)
            code = program.wait()
        finally:
            finished.set()
            watching.join()
    any_failed = any(case.outcome == FAILED for case in cases)
    if ended:
        cases.append(Case("(program)", FAILED, ended))
    elif code < 0 or (code > 0 and not any_failed):
        cases.append(Case("(program)", FAILED, f"exit status {code}"))
    if planned is None:
        cases.append(Case("(plan)", FAILED, "the program printed no plan"))
    elif (reported := sum(not case.name.startswith("(") for case in cases)) != planned:
        cases.append(Case("(plan)", FAILED, f"{planned} cases planned, {reported} reported"))
    return cases


def from_junit(xml_file, prefix=""):
    """Cases of a JUnit file, named `class.test` without the prefix.

    A case that also fails in its teardown is reported twice; failed wins.
    """
    order = {PASSED: 0, SKIPPED: 1, FAILED: 2}
    worst = {}
    for node in xml.etree.ElementTree.parse(xml_file).iter("testcase"):
        name = f"{node.get('classname')}.{node.get('name')}".removeprefix(prefix)
        case = Case(name, PASSED)
        for child in node:
            if child.tag in ("failure", "error"):
                case = Case(name, FAILED, " ".join((child.get("message") or "").split())[:300])
            elif child.tag == "skipped" and case.outcome != FAILED:
                case = Case(name, SKIPPED, " ".join((child.get("message") or "").split())[:300])
        if name not in worst or order[case.outcome] > order[worst[name].outcome]:
            worst[name] = case
    return list(worst.values())
