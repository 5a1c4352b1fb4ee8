"""What a suite needs on the machine: found, or installed from the package registries by their ordinary clients.

Everything lands under `compat/.work`; only Debian packages go to the system, and only when a tool is missing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

COMPAT = Path(__file__).resolve().parent.parent
REPOSITORY = COMPAT.parent
WORK = COMPAT / ".work"

ZOOKEEPER_VERSION = "3.9.5"

# The Debian package that brings a tool. Rust is not here: it comes with the repository's own instructions.
DEBIAN_PACKAGE = {
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "mvn": "maven",
    "go": "golang-go",
    "node": "nodejs",
    "npm": "npm",
    "gcc": "gcc",
}


class SetupError(Exception):
    """A suite cannot run on this machine; the text says what is missing and what to do."""


def tool(name):
    """Path of an executable, installed with apt-get if it is missing."""
    path = shutil.which(name)
    if path is None and name in DEBIAN_PACKAGE:
        apt_get(DEBIAN_PACKAGE[name])
        path = shutil.which(name)
    if path is None:
        raise SetupError(f"`{name}` is needed and is not on PATH")
    return path


def apt_get(*packages):
    """Installs Debian packages; needs root, and says so otherwise."""
    wanted = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise SetupError(f"please install {wanted}: there is no apt-get here to do it")
    if os.geteuid() != 0:
        raise SetupError(f"please run as root, or first: apt-get install {wanted}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    note(f"apt-get install {wanted}")
    install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]
    if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
        run(["apt-get", "-qq", "update"], env=environment)
        run(install, env=environment)


def has_debian_package(package):
    """Whether dpkg has the package installed."""
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "-W", "-f=${Status}", package]
    answer = subprocess.run(query, capture_output=True, text=True)
    return answer.returncode == 0 and "ok installed" in answer.stdout


def run(arguments, cwd=None, env=None, log=None):
    """Runs a set-up command; its output is shown only when it fails."""
    done = subprocess.run(
        [str(a) for a in arguments], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if log is not None:
        Path(log).write_text(done.stdout)
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(map(str, arguments))}` failed:\n{done.stdout[-4000:]}")
    return done.stdout


def note(text):
    """One progress line; results go to stdout, progress to stderr."""
    print(f"  .. {text}", file=sys.stderr, flush=True)


def once(directory, key, make):
    """Calls `make(directory)` unless it has already succeeded there for the same `key` (versions, lock files)."""
    directory = Path(directory)
    stamp = directory / ".compat-stamp"
    if stamp.is_file() and stamp.read_text() == key:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    make(directory)
    stamp.write_text(key)
    return directory


def zookeeper_classpath():
    """Java class path of Apache ZooKeeper, its runtime libraries and a logging set-up that writes to stderr."""
    java, maven = tool("java"), tool("mvn")
    pom = COMPAT / "lib" / "zookeeper" / "pom.xml"

    def download(directory):
        note(f"mvn: Apache ZooKeeper {ZOOKEEPER_VERSION} (java: {java})")
        run([maven, "-B", "-q", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={directory}/lib"])

    home = once(WORK / f"zookeeper-{ZOOKEEPER_VERSION}", pom.read_text(), download)
    return os.pathsep.join([str(pom.parent), str(home / "lib" / "*")])


def python_environment(name, requirements):
    """A virtual environment holding exactly the packages of a requirements file; returns its directory."""

    def create(directory):
        note(f"pip: {requirements.parent.name}/{requirements.name}")
        try:
            run([sys.executable, "-m", "venv", directory / "venv"])
        except SetupError:
            apt_get("python3-venv")
            shutil.rmtree(directory / "venv", ignore_errors=True)
            run([sys.executable, "-m", "venv", directory / "venv"])
        run([directory / "venv" / "bin" / "pip", "-q", "install", "-r", requirements])

    return once(WORK / name, requirements.read_text() + sys.version, create) / "venv"


def ostler_binary():
    """The release build of this repository, or the file `OSTLER_BIN` names."""
    named = os.environ.get("OSTLER_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise SetupError(f"OSTLER_BIN={named} is not an executable file")
        return str(Path(named).resolve())
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    binary = target / "release" / "ostler"
    if not binary.is_file():
        note("cargo build --release --package ostler")
        run([tool("cargo"), "build", "--release", "--package", "ostler"], cwd=REPOSITORY)
    return str(binary)
