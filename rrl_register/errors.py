"""Errors that a person can act on.

Every message names what was seen, needed, and what to try. Each class carries the exit code of the command line.
"""

from __future__ import annotations


class RegistrationError(Exception):
    """Base of every error raised on purpose; anything else that escapes is a bug (exit code 1)."""

    exit_code = 1


class UsageError(RegistrationError):
    """The request contradicts itself or names something that does not exist (exit code 2)."""

    exit_code = 2


class InputError(RegistrationError):
    """An input cannot be read, or cannot be used (exit code 3)."""

    exit_code = 3


class WriteError(InputError):
    """An output cannot be written for want of room, access or a fitting format (exit code 3)."""


class NotRegisteredError(RegistrationError):
    """The two images could not be registered (exit code 4)."""

    exit_code = 4


class OutputExistsError(RegistrationError):
    """The output is there already and may not be replaced (exit code 5)."""

    exit_code = 5
