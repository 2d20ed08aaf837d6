"""What a model's folder holds beside its weights, and the shards that packed weights are dealt out to."""

import os
import re
import shutil
from typing import Any, Dict, Iterable, List, Tuple, Union

from .reading import MODEL
from .safetensors import Tensor

CONFIG = "config.json"
SHARD_SIZE = "50GB"  # transformers' default

_WEIGHTS = re.compile(
    r"\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|ot|gguf|onnx|onnx_data|tflite)(\.index\.json)?$", re.IGNORECASE
)
_UNITS = {
    "": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


def parse_size(size: Union[int, str]) -> int:
    """Bytes of a size such as 5000000000, "5GB" or "5GiB"."""
    match = re.fullmatch(r"([1-9][0-9]{0,17}) ?([A-Za-z]*)", str(size))
    scale = _UNITS.get(match[2].upper()) if match else None
    if match is None or scale is None:
        raise ValueError(f"shard_size is {size!r}; expected a number of bytes, or one with a unit: 5GB, 500MiB")
    return int(match[1]) * scale


def companions(folder: str, read: Iterable[str]) -> Tuple[List[str], List[str]]:
    """The files of a model's folder that are no weights, config.json apart, and the files of weights that are not among
    those `read`: paths within the folder. Hidden files are left out."""
    known = {os.path.abspath(path) for path in read}
    copied: List[str] = []
    left: List[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder)
            if name.startswith(".") or relative == CONFIG or os.path.abspath(path) in known:
                continue
            (left if _WEIGHTS.search(name) or not os.path.isfile(path) else copied).append(relative)
    return copied, left


def copy_file(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(source, "rb") as reader, open(target, "xb") as writer:
        shutil.copyfileobj(reader, writer)


def deal(items: Iterable[Any], most: int) -> List[List[Any]]:
    """Deals items, which have `tensors`, out to shards of at most `most` bytes, in order; a larger one has its own."""
    shards: List[List[Any]] = []
    size = 0
    for item in items:
        nbytes = sum(tensor.written_nbytes for tensor in item.tensors)
        if not shards or size + nbytes > most:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += nbytes
    return shards


def shard_names(count: int) -> List[str]:
    if count == 1:
        return [MODEL]
    stem, suffix = os.path.splitext(MODEL)
    return [f"{stem}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]


def index(shards: Dict[str, List[Tensor]]) -> Dict[str, Any]:
    """The content of the index of shards, which are lists of tensors by the names of their files."""
    total = sum(tensor.written_nbytes for tensors in shards.values() for tensor in tensors)
    places = {tensor.name: name for name, tensors in shards.items() for tensor in tensors}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
