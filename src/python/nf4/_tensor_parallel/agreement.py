"""Whether all processes of a group are about to do the same. If one is not, all raise, and none waits for it later."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
import torch.distributed as dist


@dataclass
class Report:
    """What a process tells the others: its `error`, or where it is and what its model is."""

    error: str | None = None
    place: str = ""
    model: dict[str, str] = field(default_factory=dict)


def agree(mesh: Any, make: Callable[[], tuple[Any, torch.device, dict[str, str]]]) -> Any:
    """Calls make(), which returns what this process needs, its device, and what its model is, by names that all have to
    give the same text. Returns the first, where all do; else raises what is wrong, here or elsewhere."""
    made, own = None, None
    try:
        made, device, model = make()
        report = Report(place=f"{device} of {socket.gethostname()}" if device.type == "cuda" else "", model=model)
    except Exception as error:
        own, report = error, Report(error=f"{type(error).__name__}: {error}")
    reports = _gather(report, mesh)
    if own is not None:
        raise own
    for rank, other in enumerate(reports):
        if other.error is not None:
            raise RuntimeError(f"process {rank} of {len(reports)} cannot go on: {other.error}")
    _check_places([other.place for other in reports])
    for rank, other in enumerate(reports):
        difference = _difference(reports[0].model, other.model)
        if difference is not None:
            raise RuntimeError(f"process {rank} of {len(reports)} has another model than process 0: {difference}")
    return made


def _gather(report: Report, mesh: Any) -> list[Any]:
    """The reports of all. By way of the device of the group, if it has one: the current one may be what is wrong."""
    reports: list[Any] = [None] * mesh.size()
    group = mesh.get_group()
    device = getattr(group, "bound_device_id", None)
    with contextlib.nullcontext() if device is None else torch.cuda.device(device):
        dist.all_gather_object(reports, report, group=group)
    return reports


def _check_places(places: list[str]) -> None:
    for rank, place in enumerate(places):
        first = places.index(place)
        if place and first != rank:
            raise RuntimeError(f"processes {first} and {rank} both have their model on {place}; expected a device for "
                               "each: torch.cuda.set_device(local rank)")  # fmt: skip


def _difference(first: dict[str, str], other: dict[str, str]) -> str | None:
    for name in [*first, *(name for name in other if name not in first)]:
        a, b = first.get(name, "absent"), other.get(name, "absent")
        if a != b:
            return f"{name} is {b} there, and {a} in process 0"
    return None
