"""Outputs that appear whole or not at all: written beside their place under another name, then renamed."""

import contextlib
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from typing import BinaryIO, Iterator, Optional


@dataclass(frozen=True)
class Target:
    path: str  # as the caller gave it, for messages
    place: str  # behind its symlinks
    mode: Optional[int]  # permissions of what is there already


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _target(path: str, status: Optional[os.stat_result]) -> Target:
    place = os.path.realpath(path)
    parent = os.path.dirname(place)
    if not os.path.isdir(parent):
        raise FileNotFoundError(f"{path}: {parent} is no folder to write to")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: {parent} cannot be written to")
    return Target(path, place, None if status is None else stat.S_IMODE(status.st_mode))


def file_target(path: str, force: bool) -> Target:
    """Where to write the file `path`. Refuses what is no regular file, and without `force` also what is there."""
    status = _status(path)
    if os.path.basename(path) == "" or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(f"{path}: is a folder; expected the name of a file")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise FileExistsError(f"{path}: is no regular file, and is not replaced")
    if status is not None and not force:
        raise FileExistsError(f"{path}: is there already; force (--force) overwrites it")
    return _target(path, status)


def folder_target(path: str) -> Target:
    """Where to write the folder `path`: what is there already must be an empty folder."""
    status = _status(path)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{path}: is no folder; expected the name of a new one")
    if status is not None and os.listdir(path):
        raise FileExistsError(f"{path}: is a folder that holds files; expected a new or an empty one")
    if status is not None and os.path.ismount(path):
        raise FileExistsError(f"{path}: is a mount point, which cannot be replaced; name a folder within")
    return _target(path, status)


def check_space(target: Target, nbytes: int) -> None:
    usage = shutil.disk_usage(os.path.dirname(target.place))
    if usage.total and usage.free < nbytes:
        raise OSError(f"{target.path}: takes {nbytes} bytes, and {usage.free} are free")


def _part(target: Target) -> str:
    return os.path.join(os.path.dirname(target.place), f".nf4-{secrets.token_hex(8)}.part")


@contextlib.contextmanager
def _errors_name(target: Target, part: str) -> Iterator[None]:
    """Lets an error tell the path that the caller gave, and not the name that stands in for it."""
    try:
        yield
    except OSError as error:
        name = target.path if error.filename is None else str(error.filename)
        if error.errno is None or not (error.filename is None or name.startswith(part)):
            raise
        raise OSError(error.errno, error.strerror, name.replace(part, target.path, 1)) from error


def _sync_folder(path: str) -> None:
    # Not every folder can be read, nor every file system do this; the output is complete all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def synced(file: BinaryIO) -> Iterator[BinaryIO]:
    """Closes `file`, and before that has it written to the disk."""
    with file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def file(target: Target) -> Iterator[BinaryIO]:
    """A file to write, which is at `target` once the with block has ended, and nowhere if that raises."""
    part = _part(target)
    try:
        with _errors_name(target, part):
            mode = 0o666 if target.mode is None else 0o600  # the umask applies
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            with synced(open(descriptor, "wb")) as stream:
                if target.mode is not None:
                    os.fchmod(descriptor, target.mode)
                yield stream
            os.replace(part, target.place)
            _sync_folder(os.path.dirname(target.place))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


@contextlib.contextmanager
def folder(target: Target) -> Iterator[str]:
    """The path of a folder to fill, which is at `target` once the with block has ended, and nowhere if that raises."""
    part = _part(target)
    try:
        with _errors_name(target, part):
            os.mkdir(part)
            yield part
            if target.mode is not None:
                os.chmod(part, target.mode)
            _sync_folder(part)
            os.rename(part, target.place)
            _sync_folder(os.path.dirname(target.place))
    finally:
        shutil.rmtree(part, ignore_errors=True)
