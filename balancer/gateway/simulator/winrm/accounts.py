"""Who may log in to a simulated host.

pyspnego's NTLM acceptor takes its accounts from one place only, the file that the environment
variable NTLM_USER_FILE names when it looks, and that is one for the whole process. So all
servers of a process share such a file while any of them runs; each still admits only its own
users. It holds NT hashes, never passwords, and only we can read it.
"""

from __future__ import annotations

import hmac
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from spnego._ntlm_raw.crypto import ntowfv1  # the hash of MS-NLMP 3.3.1, nowhere public

from balancer.errors import InputError

_VARIABLE = "NTLM_USER_FILE"
_NO_LM_HASH = "0" * 32


class Accounts:
    """The users of one server; names are compared as Windows does, ignoring case."""

    def __init__(self, users: Mapping[str, str]) -> None:
        r"""Take passwords by user name (`user`, `DOMAIN\user` or `user@realm`).

        Raises:
            InputError: A name cannot be written in a user file.
        """
        for name in users:
            if not name or any(mark in name for mark in ":\r\n"):
                raise InputError(
                    f"{name!r} cannot be a user of a simulated host",
                    remedy="use a name without colons and line ends",
                )
        self._names = {name.lower(): name for name in users}
        self._passwords = {name.lower(): password for name, password in users.items()}

    def admit(self, name: str) -> str | None:
        """Return the user somebody is whose identity is proven, None if no user here."""
        return self._names.get(name.lower())

    def verify(self, name: bytes, password: bytes) -> str | None:
        """Return the user's name if the password is right.

        Args:
            name: As sent in Basic authentication, in UTF-8 or Latin-1 (RFC 7617 leaves it open).
            password: Likewise.
        """
        for encoding in ("utf-8", "latin-1"):
            user = name.decode(encoding, "replace")
            known = self._passwords.get(user.lower())
            if known is None:
                continue
            if hmac.compare_digest(known.encode(encoding, "replace"), password):
                return self._names[user.lower()]
        return None

    def publish(self) -> None:
        """Make the users known to the NTLM acceptor until `withdraw`.

        Raises:
            InputError: Another server of this process knows a user by another password.
        """
        _USER_FILE.add(self._passwords)

    def withdraw(self) -> None:
        """Undo one `publish`."""
        _USER_FILE.remove(self._passwords)


class _UserFile:
    """The process's NTLM user file: there while somebody needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[str, int]] = {}  # name: (password, servers that know it)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._before: str | None = None

    def add(self, users: Mapping[str, str]) -> None:
        with self._lock:
            for name, password in sorted(users.items()):
                if self._users.get(name, (password, 0))[0] != password:
                    raise InputError(
                        f"two simulated hosts know the user {name} by different passwords",
                        remedy="give the user one password, or use two user names: NTLM accounts "
                        "are shared by all servers of a process",
                    )
            for name, password in users.items():
                count = self._users.get(name, (password, 0))[1]
                self._users[name] = (password, count + 1)
            self._write()

    def remove(self, users: Mapping[str, str]) -> None:
        with self._lock:
            for name in users:
                password, count = self._users.pop(name)
                if count > 1:
                    self._users[name] = (password, count - 1)
            self._write()

    def _write(self) -> None:
        if not self._users:
            self._drop()
            return
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="simulated-hosts-")
            self._before = os.environ.get(_VARIABLE)
        path = Path(self._directory.name, "users")
        path.touch(mode=0o600)
        # smbpasswd format: name:uid:LM hash:NT hash:flags:last change
        lines = (
            f"{name}:0:{_NO_LM_HASH}:{ntowfv1(password).hex().upper()}:[U]:LCT-0\n"
            for name, (password, _) in sorted(self._users.items())
        )
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text("".join(lines), "utf-8")
        new.replace(path)  # an acceptor may be reading it now
        os.environ[_VARIABLE] = str(path)

    def _drop(self) -> None:
        if self._directory is None:
            return
        if self._before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = self._before
        self._directory.cleanup()
        self._directory = None


_USER_FILE = _UserFile()
