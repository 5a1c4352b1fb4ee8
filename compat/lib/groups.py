"""A process group of our own around a program that starts others, so that nothing it started outlives it."""

import contextlib
import os
import signal
import subprocess


@contextlib.contextmanager
def started(arguments, **options):
    """Starts a program as the leader of a new group and ends the whole group on the way out."""
    program = subprocess.Popen([str(a) for a in arguments], start_new_session=True, **options)
    try:
        yield program
    finally:
        # The id stays ours while any member lives; with none left there is normally no such group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
