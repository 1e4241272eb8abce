"""The recovery key: an age identity. The server keeps only its public half, so that it can make backups, not read them.

Format: https://age-encryption.org/v1 (X25519, ChaCha20-Poly1305 in chunks of 64 KiB); the `age` program reads them too.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from storage.errors import AppError, Invalid

PREFIX = "AGE-SECRET-KEY-1"
MAGIC = b"age-encryption.org/v1\n"


def new_key() -> tuple[str, str]:
    """A recovery key and its public half."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def read_key(text: str) -> str:
    """A recovery key as somebody typed or pasted it.

    Raises:
        Invalid: `backup.key`, it is none.
    """
    import pyrage

    clean = "".join(text.split()).upper()
    try:
        return str(pyrage.x25519.Identity.from_str(clean))
    except pyrage.IdentityError as error:
        raise Invalid("backup.key", "key") from error


def public_of(key: str) -> str:
    """The public half of a recovery key."""
    import pyrage

    return str(pyrage.x25519.Identity.from_str(key).to_public())


def encrypt(source: BinaryIO, target: BinaryIO, recipients: Sequence[str]) -> None:
    """Read plain bytes, write encrypted ones, in pieces.

    Raises:
        OSError: the source cannot be read, the target not written.
    """
    import pyrage

    out = _Target(target)
    try:
        pyrage.encrypt_io(source, out, [pyrage.x25519.Recipient.from_str(text) for text in recipients])
    except pyrage.EncryptError as error:
        raise out.error or OSError(errno.EIO, str(error)) from error


class _Target:
    """Remembers why it could not be written: the library tells it only as text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def decrypt(source: BinaryIO, target: BinaryIO, key: str) -> None:
    """Read encrypted bytes, write plain ones, in pieces. What was written counts only once this has returned.

    Raises:
        Invalid: `backup.not_ours`, `backup.wrong_key`, `backup.damaged`.
        OSError: the target cannot be written.
    """
    import pyrage

    head = source.read(len(MAGIC))
    if head != MAGIC:
        raise Invalid("backup.not_ours", "file")
    source.seek(0)
    try:
        pyrage.decrypt_io(source, target, [pyrage.x25519.Identity.from_str(key)])
    except pyrage.DecryptError as error:
        code = "backup.wrong_key" if "No matching keys" in str(error) else "backup.damaged"
        raise Invalid(code, "key" if code == "backup.wrong_key" else "file") from error
    except OSError as error:
        if error.errno is not None:  # of the target; the library's own errors have no number
            raise
        raise Invalid("backup.damaged", "file") from error


class Side:
    """Work in a thread of its own at one end of a pipe; `join` raises what it raised."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self.error: AppError | OSError | ValueError | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except (AppError, OSError, ValueError) as error:
            self.error = error

    def join(self) -> None:
        """Wait for its end.

        Raises:
            Whatever ended it early, but for a pipe that the other side closed.
        """
        self._thread.join()
        closed = isinstance(self.error, OSError) and self.error.errno == errno.EPIPE
        if self.error is not None and not closed:
            raise self.error

    def drop(self) -> None:
        """Wait for its end, whatever it was: the caller has an error of its own to tell."""
        self._thread.join()
