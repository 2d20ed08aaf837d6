"""Products of the same x as one operator in what torch.compile makes of a model.

Each launch has a beginning and an end, in which it reads nothing, and Inductor, which deals the operators of a graph
out anew for the least memory, puts norms and rotary embeddings between the projections q, k and v of a decoder. So a
pass over the graph makes one operator of the products that share x, nf4::gemm_4bit_group, for which libnf4 has one
kernel. Where it is not to do the work, the operator calls bitsandbytes' gemm_4bit for each: compiled code runs on
whatever kernels that has, libnf4's or its own.

Every model that torch.compile compiles passes through here, also those without NF4. Whatever fails here leaves the
graph as it was.
"""

from __future__ import annotations

import itertools
import logging
import operator
from typing import Any, Callable, Iterator

import torch
from torch import Tensor
from torch._inductor import config, custom_graph_pass
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from .fallback import with_fallback

log = logging.getLogger("nf4")

_OPTIONAL = ("bias", "absmax_8bit", "absmax_code", "absmax_offset")

_library = torch.library.Library("nf4", "FRAGMENT")
_library.define(
    "gemm_4bit_group(Tensor A, Tensor[] B, int[] shapes, Tensor[] absmax, int[] blocksizes, str quant_type, "
    + ", ".join(f"Tensor?[] {name}" for name in _OPTIONAL) + ") -> Tensor[]"
)  # fmt: skip


def _products(B, shapes, absmax, blocksizes, *optional) -> Iterator[tuple]:
    """The operands of each product except x and the type, in gemm_4bit's order: B, its shape, absmax and blocksize, and
    what _OPTIONAL names."""
    for required, rest in zip(zip(B, zip(shapes[::2], shapes[1::2]), absmax, blocksizes), zip(*optional)):
        yield (*required, *rest)


def _one_by_one(A, B, shapes, absmax, blocksizes, quant_type, *optional) -> list[Tensor]:
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    products = _products(B, shapes, absmax, blocksizes, *optional)
    return [gemm(A, *product[:4], quant_type, *product[4:]) for product in products]


_library.impl("gemm_4bit_group", torch._disable_dynamo(_one_by_one), "CompositeExplicitAutograd")
torch.library.register_fake("nf4::gemm_4bit_group", _one_by_one, lib=_library)


# ---- the graph


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Those of a gemm_4bit by name, with what it leaves out."""
    arguments = {argument.name: argument.default_value for argument in node.target._schema.arguments}
    arguments.update(zip(arguments, node.args), **node.kwargs)
    return arguments


def group_products(graph: torch.fx.Graph) -> None:
    """Puts the products of an x in `graph` where the first of them is, if their other operands are there by then. If it
    raises, the graph is as it was."""
    made: list[torch.fx.Node] = []
    replaced: list[tuple[torch.fx.Node, torch.fx.Node]] = []
    try:
        for nodes in _groups(graph):
            replaced += zip(nodes, _insert_group(graph, nodes, made))
    except BaseException:
        for node in reversed(made):
            graph.erase_node(node)
        raise
    for node, own in replaced:
        node.replace_all_uses_with(own)
    for node, _ in replaced:
        graph.erase_node(node)


def _groups(graph: torch.fx.Graph) -> list[list[torch.fx.Node]]:
    """Products of the same x that can be made where the first of them is."""
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    order = {node: place for place, node in enumerate(graph.nodes)}
    groups: dict[tuple, list[torch.fx.Node]] = {}
    for node in order:
        if node.op == "call_function" and node.target is gemm:
            arguments = _arguments(node)
            group = groups.setdefault((arguments["A"], arguments["quant_type"]), [])
            if not group or all(order[operand] < order[group[0]] for operand in node.all_input_nodes):
                group.append(node)
    return [nodes for nodes in groups.values() if len(nodes) > 1]


def _insert_group(graph: torch.fx.Graph, nodes: list[torch.fx.Node], made: list[torch.fx.Node]) -> list[torch.fx.Node]:
    """Puts an operator before the first of `nodes` that does the work of all, and returns what takes the place of each.
    `made` gets all new nodes as they are made."""
    arguments = [_arguments(node) for node in nodes]
    of = {name: [each[name] for each in arguments] for name in arguments[0]}
    own = []
    with graph.inserting_before(nodes[0]):
        group = graph.call_function(
            torch.ops.nf4.gemm_4bit_group.default,
            (of["A"][0], of["B"], list(itertools.chain(*of["shapeB"])), of["absmax"], of["blocksize"],
             of["quant_type"][0], *(of[name] for name in _OPTIONAL)),
        )  # fmt: skip
        made.append(group)
        group.meta["val"] = [node.meta["val"] for node in nodes]
        for i, node in enumerate(nodes):
            own.append(graph.call_function(operator.getitem, (group, i)))
            made.append(own[-1])
            own[-1].meta.update(node.meta)
    return own


# ---- the pass


class GroupProducts(CustomGraphPass):
    """group_products(), which never raises here, and does nothing once `active` is False."""

    active = True
    _warned = False

    def __call__(self, graph: torch.fx.Graph) -> None:
        try:
            if self.active and not config.cpp_wrapper:  # that is code for a process that may not have this module
                group_products(graph)
        except Exception as error:
            if not GroupProducts._warned:
                GroupProducts._warned = True
                log.warning("torch.compile does not group products of the same x: %s: %s", type(error).__name__, error)

    def uuid(self) -> Any:
        """What Inductor's cache knows the pass by; None if it must not cache."""
        return _known(lambda: (get_hash_for_files((__file__,)), self.active))


class _Chain(CustomGraphPass):
    """`own` after `before`, which somebody else has set, and which is called as Inductor would call it."""

    def __init__(self, before: Callable[..., None], own: GroupProducts) -> None:
        self.before, self.own = before, own

    def __call__(self, graph: torch.fx.Graph, *arguments: Any, **named: Any) -> None:
        self.before(graph, *arguments, **named)
        self.own(graph)

    def uuid(self) -> Any:
        own = self.own.uuid()
        before = _known(self.before.uuid) if isinstance(self.before, CustomGraphPass) else None
        return None if own is None or before is None else (own, before)


_InferenceAware = getattr(custom_graph_pass, "CustomInferenceAwareGraphPass", None)


class _InferenceAwareChain(_Chain, _InferenceAware or CustomGraphPass):
    """Where `before` is of the kind that Inductor tells whether it compiles for inference."""


def _known(uuid: Callable[[], Any]) -> Any:
    """uuid(), or None where that raises."""
    try:
        return uuid()
    except Exception:
        return None


def _with(own: GroupProducts, setting: Any) -> Any:
    """What Inductor is to be set to, for `own` to run after what `setting` has."""
    if setting is None:
        return own
    if isinstance(setting, (list, tuple)):  # from torch 2.15 on
        return type(setting)([*setting, own])
    aware = _InferenceAware is not None and isinstance(setting, _InferenceAware)
    return (_InferenceAwareChain if aware else _Chain)(setting, own)


def _without_inactive(setting: Any) -> Any:
    """`setting` without what _with() has put there and is no longer active."""
    if isinstance(setting, (list, tuple)):
        kept = type(setting)(each for each in map(_without_inactive, setting) if each is not None)
        return setting if kept == setting else kept
    if isinstance(setting, _Chain) and not setting.own.active:
        return _without_inactive(setting.before)
    return None if isinstance(setting, GroupProducts) and not setting.active else setting


def install(multiply: Callable[..., Any]) -> Callable[[], None]:
    """Makes the pass Inductor's last one, and multiply(A, products, quant_type), with products as _products() gives
    them, what the operator does on CUDA, unless it returns NotImplemented. Returns what takes both away again, and
    nothing that others have set since."""

    def group(A, B, shapes, absmax, blocksizes, quant_type, *optional):
        return multiply(A, _products(B, shapes, absmax, blocksizes, *optional), quant_type)

    kernel = torch.library.Library("nf4", "IMPL")
    kernel.impl("gemm_4bit_group", torch._disable_dynamo(with_fallback(group, _one_by_one)), "CUDA")
    before = _without_inactive(config.post_grad_custom_post_pass)
    own = GroupProducts()
    config.post_grad_custom_post_pass = _with(own, before)

    def undo() -> None:
        kernel._destroy()
        own.active = False  # for those who keep it: a setting that is put back, or a pass that calls it
        setting = config.post_grad_custom_post_pass
        left = _without_inactive(setting)
        if left is not setting:
            config.post_grad_custom_post_pass = before if left == before else left

    return undo
