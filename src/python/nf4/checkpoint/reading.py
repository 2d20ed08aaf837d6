"""Checkpoints to read: a safetensors file, an index with its shards, or a folder that holds either."""

import builtins
import os
import stat
import weakref
from typing import BinaryIO, Dict, List, Optional, Union

from .safetensors import LENGTH_BYTES, FileError, Tensor, parse_header, parse_json_object, read_length

MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
_INDEX_SUFFIX = ".index.json"

Path = Union[str, "os.PathLike[str]"]


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # the open of a pipe would wait for a writer


def _open_regular(path: str) -> BinaryIO:
    file = builtins.open(path, "rb", buffering=0, opener=_open_without_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise FileError(f"{path}: is no regular file")


class File:
    """A safetensors file. `tensors` has its Tensors by name, in the header's order."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        self._file = _open_regular(self.path)
        weakref.finalize(self, self._file.close)
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self._data = LENGTH_BYTES + read_length(self._read(0, min(LENGTH_BYTES, self._size)), self._size)
            header = self._read(LENGTH_BYTES, self._data)
            self.tensors, self.metadata = parse_header(header, self._size - self._data)
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"{self.path}: {error}") from None

    def _read(self, begin: int, end: int) -> bytes:
        # Read, not mapped: a mapped file that somebody truncates kills the process.
        pieces: List[bytes] = []
        while begin < end:
            try:
                piece = os.pread(self._file.fileno(), end - begin, begin)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None
            if not piece:
                raise FileError(
                    f"{self.path}: has no byte {begin} any more, and held {self._size} bytes when it was opened"
                )
            pieces.append(piece)
            begin += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def files(self) -> List[str]:
        """The paths of what is read."""
        return [self.path]

    def read(self, tensor: Tensor, begin: int = 0, end: Optional[int] = None) -> bytes:
        """Bytes [begin, end) of `tensor`."""
        end = tensor.nbytes if end is None else end
        return self._read(self._data + tensor.begin + begin, self._data + tensor.begin + end)


def _shard_names(path: str) -> Dict[str, str]:
    """The weight_map of the index `path`."""
    with _open_regular(path) as file:
        text = file.read()
    try:
        names = parse_json_object(text).get("weight_map")
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    if not isinstance(names, dict):
        raise FileError(f"{path}: has no weight_map of names")
    for tensor, shard in names.items():
        if not isinstance(shard, str) or os.path.basename(shard) != shard or shard in ("", ".", "..") or "\0" in shard:
            raise FileError(f"{path}: tensor {tensor!r} lies in {shard!r}; expected a file beside the index")
    return names


class Shards:
    """The files that an index names, as one checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        shard_of = _shard_names(self.path)
        folder = os.path.dirname(self.path)
        self._shards = {name: File(os.path.join(folder, name)) for name in sorted(set(shard_of.values()))}
        self._shard_of: Dict[str, File] = {}
        self.tensors: Dict[str, Tensor] = {}
        self.metadata: Dict[str, str] = {}
        for name, shard in self._shards.items():
            self.metadata.update(shard.metadata)
            for tensor in shard.tensors.values():
                if shard_of.setdefault(tensor.name, name) == name:
                    self._shard_of[tensor.name] = shard
                    self.tensors[tensor.name] = tensor
        for tensor_name, name in shard_of.items():
            if tensor_name not in self.tensors:
                raise FileError(f"{self.path}: tensor {tensor_name!r} is not in {name!r}, where it should lie")

    @property
    def files(self) -> List[str]:
        return [self.path] + [shard.path for shard in self._shards.values()]

    def read(self, tensor: Tensor, begin: int = 0, end: Optional[int] = None) -> bytes:
        return self._shard_of[tensor.name].read(tensor, begin, end)


Checkpoint = Union[File, Shards]


def folder_of(path: Path) -> Optional[str]:
    """The folder whose model `path` stands for; None if `path` is a safetensors file alone."""
    path = os.fspath(path)
    if os.path.isdir(path):
        return path
    return os.path.dirname(path) or "." if path.endswith(_INDEX_SUFFIX) else None


def open(path: Path) -> Checkpoint:
    """Opens a safetensors file, an index, or a folder with model.safetensors or its index.

    `tensors` has the Tensors of all files by name, and read() gives their bytes. A file that is truncated, malformed or
    not regular is a FileError."""
    path = os.fspath(path)
    if path.endswith(_INDEX_SUFFIX):
        return Shards(path)
    if not os.path.isdir(path):
        return File(path)
    for name, kind in ((MODEL, File), (INDEX, Shards)):
        if os.path.exists(os.path.join(path, name)):
            return kind(os.path.join(path, name))
    raise FileError(f"{path}: has neither {MODEL} nor {INDEX}")
