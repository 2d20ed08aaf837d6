"""Packs a checkpoint: what was asked for is checked first, then all of it is written, or nothing."""

import json
import os
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Union

from .._library import BLOCKSIZES
from . import folders, output
from .experts import expert_biases, expert_matrices
from .matrix import DTYPES, Matrix
from .packing import Copied, Packed, new_packer
from .reading import INDEX, Path, folder_of
from .reading import open as open_checkpoint
from .safetensors import FileError, Writer
from .selection import config_dtype, quantization_config, read_config, select

Progress = Callable[[int, int], None]


class Quantization:
    """A checkpoint to pack, with all that can be refused refused before any work. run() does the work.

    `packed` has the names of the matrices, `mismatched` those of layers that transformers will not load as they are
    packed, `left` the files of the folder that are not copied since they hold other weights."""

    def __init__(
        self, source: Path, target: Path, *, blocksize: int = 64, nested: bool = False, include: Optional[str] = None,
        exclude: Optional[str] = None, experts: bool = False, config: Optional[Path] = None,
        shard_size: Union[int, str] = folders.SHARD_SIZE, force: bool = False, device: Optional[int] = None,
    ) -> None:  # fmt: skip
        if blocksize not in BLOCKSIZES:
            raise ValueError(f"blocksize is {blocksize}; expected one of {', '.join(map(str, BLOCKSIZES))}")
        shard_bytes = folders.parse_size(shard_size)
        source, target = os.fspath(source), os.fspath(target)
        self.checkpoint = open_checkpoint(source)
        self.device = device
        self._folder = folder_of(source)
        if self._folder is None and os.path.exists(target) and os.path.samefile(source, target):
            raise ValueError(f"{target} is both the input and the output")
        self.target = output.folder_target(target) if self._folder else output.file_target(target, force)

        config_path = self._config_path(source, config)
        self._config = None if config_path is None else read_config(config_path)
        if self._config is not None and self._config.get("quantization_config") and (self._folder or not include):
            raise FileError(f"{config_path}: has a quantization_config; expected a model that is not quantized yet")
        selection = select(self.checkpoint, self._config, config_path, include, exclude, experts)
        self.mismatched = selection.mismatched
        items: List[Union[Copied, Packed]] = []
        for tensor in self.checkpoint.tensors.values():
            if tensor.name in selection.transposed:
                matrix = Matrix(self.checkpoint, tensor, selection.transposed[tensor.name])
                items.append(Packed(matrix, blocksize, nested))
            elif tensor.name in selection.stacks:
                matrices = expert_matrices(self.checkpoint, tensor, selection.stacks[tensor.name])
                items += (Packed(matrix, blocksize, nested) for matrix in matrices)
            elif tensor.name in selection.biases:
                items += (
                    Copied(*piece) for piece in expert_biases(self.checkpoint, tensor, selection.biases[tensor.name])
                )
            else:
                items.append(Copied(self.checkpoint, tensor))
        packed = [item for item in items if isinstance(item, Packed)]
        self.packed = [item.name for item in packed]
        dtype = config_dtype(self._config or {}) or DTYPES[packed[0].matrix.tensor.dtype]
        self.quantization_config = quantization_config(nested=nested, dtype=dtype, skipped=selection.skipped)
        self._deal(items, shard_bytes)
        self.copied, self.left = folders.companions(self._folder, self.checkpoint.files) if self._folder else ([], [])
        output.check_space(self.target, self.nbytes + sum(map(os.path.getsize, map(self._companion, self.copied))))

    def _config_path(self, source: str, config: Optional[Path]) -> Optional[str]:
        if config is not None:
            return os.fspath(config)
        beside = os.path.join(os.path.dirname(source) if self._folder is None else self._folder, folders.CONFIG)
        if self._folder is None and not os.path.exists(beside):
            return None
        return beside

    def _companion(self, name: str) -> str:
        return os.path.join(self._folder or "", name)

    def _deal(self, items: List[Union[Copied, Packed]], shard_bytes: int) -> None:
        shards = folders.deal(items, shard_bytes) if self._folder else [items]
        self._shards = dict(zip(folders.shard_names(len(shards)), shards))
        self._tensors = {name: [tensor for item in shard for tensor in item.tensors]
                         for name, shard in self._shards.items()}  # fmt: skip
        names = [tensor.name for tensors in self._tensors.values() for tensor in tensors]
        if len(set(names)) < len(names):
            raise FileError(f"{self.checkpoint.path}: has keys of packed layers beside the layers themselves")
        metadata = self.checkpoint.metadata
        if self._folder:
            metadata = {"format": "pt", **metadata}  # without it, transformers does not read a file
        self._writers = {name: Writer(tensors, metadata) for name, tensors in self._tensors.items()}

    @property
    def source_nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.checkpoint.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all files of weights that run() writes."""
        return sum(writer.nbytes for writer in self._writers.values())

    def run(self, progress: Optional[Progress] = None) -> None:
        """Writes the output. progress(done, all), in bytes read, is called on the way. A chunk of one matrix and its
        scales are in memory at a time."""
        packer = new_packer(self.device)
        total, done = self.source_nbytes, 0

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        def write_shard(file: BinaryIO, name: str) -> None:
            writer = self._writers[name]
            writer.begin(file)
            for item in self._shards[name]:
                item.write(writer, packer, advance)

        if self._folder is None:
            with output.file(self.target) as file:
                (name,) = self._shards
                write_shard(file, name)
            return
        with output.folder(self.target) as folder:
            for name in self._shards:
                with output.synced(open(os.path.join(folder, name), "xb")) as file:
                    write_shard(file, name)
            for name in self.copied:
                folders.copy_file(self._companion(name), os.path.join(folder, name))
            if len(self._shards) > 1:
                _write_json(os.path.join(folder, INDEX), folders.index(self._tensors))
            config = dict(self._config or {}, quantization_config=self.quantization_config)
            _write_json(os.path.join(folder, folders.CONFIG), config)


def _write_json(path: str, value: Dict[str, Any]) -> None:
    with output.synced(open(path, "xb")) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def quantize(source: Path, target: Path, *, progress: Optional[Progress] = None, **options: Any) -> List[str]:
    """Packs the checkpoint `source` and writes `target`, whole or not at all. Returns the names of what was packed.

    A file gives a file. A folder, or an index of shards, gives a folder from which transformers' from_pretrained loads
    the model: shards of at most `shard_size`, config.json, and copies of all that is no weight.

    Packed are the matrices that transformers would pack for the model of config.json, or of the file `config`.
    `include` and `exclude`, regular expressions of names, overrule that. With `experts` the matrices of experts are
    packed too, which the plug-in loads; stacks of them become matrices under names of their own. `blocksize` elements share a scale; `nested`
    quantizes the scales too. `force` overwrites a file. `device` is the number of a CUDA device; None is the host."""
    job = Quantization(source, target, **options)
    job.run(progress)
    return job.packed
