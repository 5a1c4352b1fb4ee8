"""zkCli is `org.apache.zookeeper.ZooKeeperMain`: scripts are typed into it, and its answers are compared.

`scripts/*.cli` hold one command per line. The expected answers, in `expected/`, were recorded from Apache ZooKeeper
with `compat/run --server zookeeper --record zkcli`. Every command is a case; so is the list of watch events of each
script, because the shell prints those whenever they arrive.
"""

import difflib
import re
import subprocess

import outcomes
import toolchain

SUMMARY = "zkCli (ZooKeeperMain 3.9.5) driven by scripts and in one-shot mode"

SCRIPT_LIMIT_S = 120
# Typed after every command; its answer, an error for that path, ends the command's own answer.
MARK = "/zkcli-mark-"


def prepare(kit):
    toolchain.zookeeper_classpath()


def run(kit):
    kit.log_file().unlink(missing_ok=True)
    cases = []
    for script in sorted((kit.source / "scripts").glob("*.cli")):
        cases += compare(kit, script.stem, play(kit, script.read_text()))
    if not kit.quick:
        cases += compare(kit, "oneshot", one_shots(kit, (kit.source / "oneshot.txt").read_text()))
    return cases


def shell(kit, address, *command):
    """The command line of one shell."""
    return [
        toolchain.tool("java"),
        *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-Dcompat.log.level=OFF", "-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.timezone=UTC"),
        *("-cp", toolchain.zookeeper_classpath()),
        *("org.apache.zookeeper.ZooKeeperMain", "-server", address, *command),
    ]


def play(kit, script):
    """Types a script into a shell; returns [(command, answer)], the last one being the watch events."""
    lines = [line.replace("{server}", kit.server.address) for line in script.splitlines() if line.strip()]
    address = next((line.removeprefix("# address: ") for line in lines if line.startswith("# address: ")), None)
    commands = [line for line in lines if not line.startswith("#")]
    typed = "".join(f"{command}\nls {MARK}{number}\n" for number, command in enumerate(commands))
    done = subprocess.run(
        shell(kit, address or kit.server.address),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SCRIPT_LIMIT_S,
    )
    with open(kit.log_file(), "a") as log:
        log.write(done.stdout)
    answers, current, events = {}, [], []
    for line in done.stdout.splitlines():
        mark = re.search(re.escape(MARK) + r"(\d+)$", line)
        if line.startswith("WatchedEvent "):
            if "type:None" not in line:
                events.append(line)
        elif mark and not re.match(r"\d+ - ", line):
            answers.setdefault(int(mark[1]), current)
            current = []
        elif line and line != "WATCHER::" and not line.startswith(("Welcome to", "JLine support", "Connecting to")):
            current.append(line)
    # What follows `quit` or a lost marker belongs to the last command.
    transcript = [(command, answers.get(number, [])) for number, command in enumerate(commands)]
    if current and transcript:
        transcript[-1][1].extend(current)
    transcript.append(("(events)", events))
    return mask(transcript, kit.server.address)


def one_shots(kit, script):
    """Runs every command in a shell of its own; returns [(command, answer and exit status)]."""
    transcript = []
    for command in script.splitlines():
        if not command.strip() or command.startswith("#"):
            continue
        done = subprocess.run(
            shell(kit, kit.server.address, *command.split()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SCRIPT_LIMIT_S,
        )
        drop = ("WATCHER::", "Connecting to", "WatchedEvent ")
        answer = [line for line in done.stdout.splitlines() if line and not line.startswith(drop)]
        transcript.append((command, [*answer, f"exit status {done.returncode}"]))
    return mask(transcript, kit.server.address)


_ZXID = re.compile(r"((?:cZxid|mZxid|pZxid) = 0x)([0-9a-f]+)|(zxid: )(\d+)")
_TIME = re.compile(r"\b([cm]time) = .*")
_OWNER = re.compile(r"(ephemeralOwner = 0x)(?!0$)[0-9a-f]+$")


def mask(transcript, address):
    """Replaces what no two runs share: the address, times, session ids, and the base the zxids count from."""

    def zxid_of(found):
        return int(found[2], 16) if found[1] else int(found[4])

    seen = [zxid_of(found) for _, answer in transcript for line in answer for found in _ZXID.finditer(line)]
    base = min((zxid for zxid in seen if zxid > 0), default=0)

    def relative(found):
        zxid = zxid_of(found)
        return f"{found[1] or found[3]}{f'BASE+{zxid - base}' if zxid > 0 else zxid}"

    def masked(line):
        line = _TIME.sub(r"\1 = TIME", _OWNER.sub(r"\1SESSION", _ZXID.sub(relative, line)))
        return line.replace(address, "{server}")

    # `whoami` prints a set, whose order is an accident of Java's hashing.
    return [
        (
            command.replace(address, "{server}"),
            sorted(answer) if command == "whoami" else [masked(line) for line in answer],
        )
        for command, answer in transcript
    ]


def compare(kit, name, transcript):
    """One case per command against the recorded answer; records instead with `--record`."""
    file = kit.source / "expected" / f"{name}.txt"
    if kit.record:
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"> {command}\n" + "".join(f"{line}\n" for line in answer) for command, answer in transcript))
    expected, current = [], None
    for line in file.read_text().splitlines():
        if line.startswith("> "):
            current = []
            expected.append((line[2:], current))
        else:
            current.append(line)
    if [command for command, _ in expected] != [command for command, _ in transcript]:
        return [outcomes.Case(f"{name}.script", outcomes.FAILED, f"{file} is for another script: record it again")]
    cases = []
    for number, ((command, wanted), (_, got)) in enumerate(zip(expected, transcript), 1):
        case = f"{name}.{number:02}-{command.split()[0].strip('()')}"
        if wanted == got:
            cases.append(outcomes.Case(case, outcomes.PASSED))
        else:
            difference = [line for line in difflib.ndiff(wanted, got) if line[0] in "+-"]
            cases.append(outcomes.Case(case, outcomes.FAILED, f"`{command}`: " + " | ".join(difference)))
    return cases
