"""Keeps secrets out of what is written and sent: by name, by shape, and by being known.

Three nets, since each alone has holes. What is *called* a password is hidden whatever it holds;
what *looks* like one (in a URL, after `Bearer`, after `password=`) is hidden wherever it stands;
and a secret that we have read ourselves is hidden even in the middle of a library's error message.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

HIDDEN = "[hidden]"

# Below this length a "known secret" would blank out ordinary words.
KNOWN_LENGTH_MIN = 4

# The last word of a key decides: `password` holds one, `password_file` says where one is.
_NAME = re.compile(
    r"(?:^|[_.\- ])(?:pass(?:word|wd|phrase)?|pwd|secret|token|authorization|cookie|credentials?"
    r"|api_?key|private_?key)$",
    re.IGNORECASE,
)
_SHAPES = (
    (re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+(?=@)"), rf"\1:{HIDDEN}"),
    (
        # A digit or sign among them: `Kerberos authentication` is no secret.
        re.compile(
            r"\b(bearer|basic|negotiate|ntlm|kerberos)\s+(?=\S*[0-9+/=])[a-z0-9+/_.=\-]{12,}",
            re.IGNORECASE,
        ),
        rf"\1 {HIDDEN}",
    ),
    (
        re.compile(
            r"\b(pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key)(\"?\s*[=:]\s*)"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
)


class Secrets:
    """The secrets that this process has read; safe for use by several threads."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def learn(self, *secrets: str | None) -> None:
        """Hide these from now on, wherever they appear."""
        new = {each for each in secrets if each is not None and len(each) >= KNOWN_LENGTH_MIN}
        with self._lock:
            # The longest first: one secret may be the beginning of another.
            self._known = tuple(sorted({*self._known, *new}, key=lambda each: (-len(each), each)))

    def hide(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text

    def clean(self, value: object, name: str = "") -> object:
        """Return a value called `name` without secrets, however deep they lie."""
        if _NAME.search(name) and value not in (None, "", False, True):
            return HIDDEN
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {str(key): self.clean(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(inner) for inner in value]
        if isinstance(value, int | float) or value is None:
            return value
        return self.hide(str(value))
