"""Products of the same x next to one another in what torch.compile makes of a model.

Inductor deals the operators of a graph out anew, for the least memory: of the projections q, k and v of a decoder it
puts norms and rotary embeddings in between. A product that follows another starts while that one ends, where one that
follows a kernel of torch waits for it. So a pass over the graph makes one operator of the products that share x,
nf4::gemm_4bit_group, which calls bitsandbytes' gemm_4bit for each: compiled code runs on whatever kernels that has,
libnf4's or its own.
"""

import itertools
import operator

import torch
from torch._inductor import config
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

_OPTIONAL = ("bias", "absmax_8bit", "absmax_code", "absmax_offset")

_library = torch.library.Library("nf4", "FRAGMENT")
_library.define(
    "gemm_4bit_group(Tensor A, Tensor[] B, int[] shapes, Tensor[] absmax, int[] blocksizes, str quant_type, "
    + ", ".join(f"Tensor?[] {name}" for name in _OPTIONAL) + ") -> Tensor[]"
)  # fmt: skip


def _group(A, B, shapes, absmax, blocksizes, quant_type, *optional):
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    rows_and_cols = zip(shapes[::2], shapes[1::2])
    return [
        gemm(A, *each, quant_type, *rest)
        for each, rest in zip(zip(B, rows_and_cols, absmax, blocksizes), zip(*optional))
    ]


_library.impl("gemm_4bit_group", torch._disable_dynamo(_group), "CompositeExplicitAutograd")
torch.library.register_fake("nf4::gemm_4bit_group", _group, lib=_library)


def _arguments(node):
    """Those of a gemm_4bit by name, with what it leaves out."""
    arguments = {argument.name: argument.default_value for argument in node.target._schema.arguments}
    arguments.update(zip(arguments, node.args), **node.kwargs)
    return arguments


def group_products(graph):
    """Puts the products of an x in `graph`, of torch.fx, where the first of them is, if their other operands are there
    by then."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    groups = {}
    for node in graph.find_nodes(op="call_function", target=torch.ops.bitsandbytes.gemm_4bit.default):
        arguments = _arguments(node)
        group = groups.setdefault((arguments["A"], arguments["quant_type"]), [])
        if not group or all(order[operand] < order[group[0]] for operand in node.all_input_nodes):
            group.append(node)
    for nodes in groups.values():
        if len(nodes) > 1:
            _make_one(graph, nodes)


def _make_one(graph, nodes):
    """Puts an operator in the place of the first of `nodes` that does the work of all."""
    arguments = [_arguments(node) for node in nodes]
    of = {name: [each[name] for each in arguments] for name in arguments[0]}
    with graph.inserting_before(nodes[0]):
        group = graph.call_function(
            torch.ops.nf4.gemm_4bit_group.default,
            (of["A"][0], of["B"], list(itertools.chain(*of["shapeB"])), of["absmax"], of["blocksize"],
             of["quant_type"][0], *(of[name] for name in _OPTIONAL)),
        )  # fmt: skip
        group.meta["val"] = [node.meta["val"] for node in nodes]
        for i, node in enumerate(nodes):
            own = graph.call_function(operator.getitem, (group, i))
            own.meta.update(node.meta)
            node.replace_all_uses_with(own)
    for node in nodes:
        graph.erase_node(node)


class GroupProducts(CustomGraphPass):
    """group_products() after `before`, the pass that was there, if any."""

    def __init__(self, before):
        self.before = before

    def __call__(self, graph):
        if self.before is not None:
            self.before(graph)
        if not config.cpp_wrapper:  # code for a process that may not have this module
            group_products(graph)

    def uuid(self):
        """What Inductor's cache knows the pass by; None if it must not cache."""
        own = get_hash_for_files((__file__,))
        if self.before is None:
            return own
        before = self.before.uuid() if isinstance(self.before, CustomGraphPass) else None
        return None if before is None else (own, before)


def install():
    """Makes the pass Inductor's last one. Returns what takes it away again."""
    before = config.post_grad_custom_post_pass
    own = config.post_grad_custom_post_pass = GroupProducts(before)

    def undo():
        if config.post_grad_custom_post_pass is own:
            config.post_grad_custom_post_pass = before

    return undo
