"""What is recorded, by subject."""

from . import access, differences, hostile, multi, nodes, server, sessions, watches  # noqa: F401
from .registry import ALL  # noqa: F401
