"""The known list of a suite on a server: every failure and every skip has a line, and every line a reason.

    # text after a hash explains
    fail TestX.test_y      # it fails, and why
    skip TestX.test_tls*   # it is not run, and why
    may TestX.test_z       # it fails now and then, which is right: two clients read from two servers, for instance

Names may hold `*`. Strict both ways: an unlisted failure or skip fails the run, and so does a listed one that passes
or, in a full run, a line that matches no case.
"""

import dataclasses
import fnmatch
from pathlib import Path

from outcomes import DISTURBED, FAILED, PASSED, SKIPPED
from toolchain import COMPAT, SetupError

# What `may` expects: either.
EITHER = "either"
_OUTCOME = {"fail": FAILED, "skip": SKIPPED, "may": EITHER}


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a known list."""

    outcome: str
    pattern: str
    reason: str


def path(suite, server):
    """Where the known list of a suite on a server is."""
    return COMPAT / "known" / f"{suite}.{server}.txt"


def read(suite, server):
    """The lines of the known list; a missing file knows nothing."""
    file = Path(path(suite, server))
    if not file.is_file():
        return []
    lines = []
    for number, text in enumerate(file.read_text().splitlines(), 1):
        entry, _, reason = text.partition("#")
        if not entry.strip():
            continue
        words = entry.split()
        if len(words) != 2 or words[0] not in _OUTCOME or not reason.strip():
            raise SetupError(f"{file}:{number}: expected `fail|skip|may NAME  # reason`, found {text!r}")
        lines.append(Line(_OUTCOME[words[0]], words[1], reason.strip()))
    return lines


def surprises(cases, lines, whole):
    """What differs from the list, as readable lines; empty when all is as known. `whole`: every case was to run."""
    found, used = [], set()
    for case in cases:
        matching = [line for line in lines if fnmatch.fnmatchcase(case.name, line.pattern)]
        used.update(matching)
        expected = matching[0].outcome if matching else PASSED
        if case.outcome in (expected, DISTURBED) or (expected == EITHER and case.outcome in (PASSED, FAILED)):
            continue
        if expected == PASSED:
            found.append(f"{case.outcome}, not listed: {case.name}: {case.detail}")
        else:
            found.append(f"{case.outcome}, listed as {expected}: {case.name} ({matching[0].reason})")
    if whole:
        found += [f"listed, but no such case: {line.pattern}" for line in lines if line not in used]
    return found
