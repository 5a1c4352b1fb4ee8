#!/usr/bin/env python3
"""Records golden exchanges from a fresh standalone Apache ZooKeeper into scenario files.

    record.py --classpath 'DIR/*' [--out crates/testkit/golden] [--port 21831] [--verify REPLAY] [NAME...]

Every scenario gets its own server with its own empty data directory. The classpath must hold
zookeeper-3.9.5.jar and what it needs (mvn dependency:copy-dependencies puts it there).
The format of the files is described in crates/testkit/golden/README.md.
"""

import argparse
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import scenarios
from session import Recorder

ZOOKEEPER = "3.9.5"
CONFIG = """\
tickTime=2000
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
"""


class Server:
    """A standalone Apache ZooKeeper for one scenario."""

    def __init__(self, classpath, port, settings):
        self.port, self.directory = port, tempfile.TemporaryDirectory(prefix="golden-")
        root = pathlib.Path(self.directory.name)
        config = root / "zoo.cfg"
        lines = [f"{key}={value}\n" for key, value in settings.items() if not key.startswith("zookeeper.")]
        config.write_text(CONFIG + f"dataDir={root}\nclientPort={port}\n" + "".join(lines))
        command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classpath]
        command += [f"-D{key}={value}" for key, value in settings.items() if key.startswith("zookeeper.")]
        command += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]
        self.log = open(root / "log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.serves():
                return
            time.sleep(0.05)
        self.log.seek(0)
        raise SystemExit(f"Apache ZooKeeper did not start:\n{self.log.read()}")

    def serves(self):
        """The port is open a moment before the server takes sessions; `srvr` tells them apart."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"srvr")
                return b"Mode: standalone" in probe.recv(4096)
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.directory.cleanup()


def heading(scenario):
    lines = [f"# {line}" for line in scenario.description.splitlines()]
    lines.append(f"# Recorded from Apache ZooKeeper {ZOOKEEPER}; README.md explains the format.")
    lines += [f"setting {key}={value}" for key, value in scenario.settings.items()]
    if scenario.fresh:
        lines.append("requires fresh server")
    if scenario.disposable:
        lines.append("requires disposable zookeeper")
    return lines


def record(scenario, args):
    server = Server(args.classpath, args.port, scenario.settings)
    recorder = Recorder(("127.0.0.1", args.port))
    try:
        scenario.play(recorder)
        if recorder.connections:
            raise AssertionError(f"{scenario.name} leaves {sorted(recorder.connections)} connected")
    except Exception:
        print("\n".join(recorder.lines[-12:]), file=sys.stderr)
        print(f"in scenario {scenario.name}:", file=sys.stderr)
        raise
    finally:
        server.stop()
    path = args.out / f"{scenario.name}.txt"
    path.write_text("\n".join(heading(scenario) + recorder.lines) + "\n")
    print(f"{path.name}: {sum('< ' in line for line in recorder.lines)} replies and events", flush=True)


def verify(scenario, args):
    """Plays the recorded file to another fresh server. True if all of it was as recorded."""
    server = Server(args.classpath, args.port, scenario.settings)
    try:
        path = args.out / f"{scenario.name}.txt"
        return subprocess.run([args.verify, "--zookeeper", f"127.0.0.1:{args.port}", path]).returncode == 0
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classpath", required=True, help="where the jars are, as for java -cp")
    parser.add_argument("--port", type=int, default=21831)
    default_out = pathlib.Path(__file__).resolve().parents[2] / "crates/testkit/golden"
    parser.add_argument("--out", type=pathlib.Path, default=default_out)
    parser.add_argument("--verify", metavar="REPLAY", help="record nothing; play the files with this program instead "
                        "(cargo build -p ostler-testkit --example replay)")
    parser.add_argument("names", nargs="*", help="scenarios to record; all of them by default")
    args = parser.parse_args()
    unknown = set(args.names) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = [scenario for name, scenario in scenarios.ALL.items() if not args.names or name in args.names]
    if args.verify:
        failed = [scenario.name for scenario in chosen if not verify(scenario, args)]
        raise SystemExit(f"{len(failed)} of {len(chosen)} scenarios failed" if failed else 0)
    for scenario in chosen:
        record(scenario, args)


if __name__ == "__main__":
    main()
