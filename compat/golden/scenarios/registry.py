"""The list of scenarios, filled by the modules beside this one."""

from dataclasses import dataclass, field
from typing import Callable

ALL = {}


@dataclass
class Scenario:
    name: str
    description: str
    play: Callable
    settings: dict = field(default_factory=dict)
    fresh: bool = False  # shows the built-in tree or counts of the whole server
    disposable: bool = False  # leaves Apache ZooKeeper unable to serve


def scenario(name, settings=None, fresh=False, disposable=False):
    """Registers a function taking a `Recorder`; its docstring heads the file."""

    def register(play):
        assert name not in ALL, name
        ALL[name] = Scenario(name, play.__doc__.strip(), play, settings or {}, fresh, disposable)
        return play

    return register
