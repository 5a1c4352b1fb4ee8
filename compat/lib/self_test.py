"""Tests of the runner itself: python3 compat/lib/self_test.py"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

import known
import outcomes
from outcomes import FAILED, PASSED, SKIPPED, Case


class KnownLists(unittest.TestCase):
    LINES = [known.Line(FAILED, "broken", "why"), known.Line(SKIPPED, "later.*", "why")]

    def surprises(self, *cases, whole=False):
        return known.surprises(cases, self.LINES, whole)

    def test_what_is_listed_is_no_surprise(self):
        cases = [Case("fine", PASSED), Case("broken", FAILED), Case("later.tls", SKIPPED)]
        self.assertEqual(self.surprises(*cases, whole=True), [])

    def test_an_unlisted_failure_or_skip_is(self):
        self.assertEqual(len(self.surprises(Case("fine", FAILED), Case("also", SKIPPED))), 2)

    def test_a_listed_failure_that_passes_is(self):
        self.assertEqual(len(self.surprises(Case("broken", PASSED))), 1)

    def test_a_line_without_a_case_is_only_in_a_full_run(self):
        self.assertEqual(len(self.surprises(Case("broken", FAILED), whole=True)), 1)
        self.assertEqual(self.surprises(Case("broken", FAILED), whole=False), [])


class Programs(unittest.TestCase):
    def run_shell(self, script, **limits):
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "log"
            return outcomes.run_program(["sh", "-c", script], dict(os.environ), log, **{"limit_s": 30, **limits})

    def test_results_are_read(self):
        cases = self.run_shell("echo 1..3; echo ok a; echo not ok b: too bad; echo 'ok 3 - c # SKIP not here'")
        self.assertEqual(cases, [Case("a", PASSED), Case("b", FAILED, "too bad"), Case("c", SKIPPED, "not here")])

    def test_missing_cases_plan_and_crashes_are_failures(self):
        self.assertEqual([case.name for case in self.run_shell("echo 1..2; echo ok a")], ["a", "(plan)"])
        self.assertEqual([case.name for case in self.run_shell("echo ok a")], ["a", "(plan)"])
        self.assertEqual([case.name for case in self.run_shell("echo 1..1; echo ok a; exit 3")], ["a", "(program)"])

    def test_a_silent_program_is_ended(self):
        cases = self.run_shell("echo 1..1; exec sleep 60", silence_s=1)
        self.assertEqual([case.name for case in cases], ["(program)", "(plan)"])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
