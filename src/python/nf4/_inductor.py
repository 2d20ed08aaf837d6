"""Products of the same x as one operator in what torch.compile makes of a model.

Each launch has a beginning and an end, in which it reads nothing, and Inductor, which deals the operators of a graph
out anew for the least memory, puts norms and rotary embeddings between the projections q, k and v of a decoder. So a
pass over the graph makes one operator of the products that share x, nf4::gemm_4bit_group, for which libnf4 has one
kernel. Where it is not to do the work, the operator calls bitsandbytes' gemm_4bit for each: compiled code runs on
whatever kernels that has, libnf4's or its own.
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


def _products(B, shapes, absmax, blocksizes, *optional):
    """The operands of each product but x and the type, in gemm_4bit's order: B, its shape, absmax and blocksize, and what
    _OPTIONAL names."""
    for required, rest in zip(zip(B, zip(shapes[::2], shapes[1::2]), absmax, blocksizes), zip(*optional)):
        yield (*required, *rest)


def _one_by_one(A, B, shapes, absmax, blocksizes, quant_type, *optional):
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    products = _products(B, shapes, absmax, blocksizes, *optional)
    return [gemm(A, *product[:4], quant_type, *product[4:]) for product in products]


_library.impl("gemm_4bit_group", torch._disable_dynamo(_one_by_one), "CompositeExplicitAutograd")
torch.library.register_fake("nf4::gemm_4bit_group", _one_by_one, lib=_library)


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


def install(multiply):
    """Makes the pass Inductor's last one, and multiply(A, products, quant_type), with products as _products() gives them,
    what the operator does on CUDA, unless it returns None. Returns what takes both away again."""

    def group(A, B, shapes, absmax, blocksizes, quant_type, *optional):
        ours = multiply(A, _products(B, shapes, absmax, blocksizes, *optional), quant_type)
        return _one_by_one(A, B, shapes, absmax, blocksizes, quant_type, *optional) if ours is None else ours

    kernel = torch.library.Library("nf4", "IMPL")
    kernel.impl("gemm_4bit_group", torch._disable_dynamo(group), "CUDA")
    before = config.post_grad_custom_post_pass
    own = config.post_grad_custom_post_pass = GroupProducts(before)

    def undo():
        kernel._destroy()
        if config.post_grad_custom_post_pass is own:
            config.post_grad_custom_post_pass = before

    return undo
