"""The network as an ONNX file with int8 matrices, written through the protobuf that onnxruntime brings.

The graph takes embedded text (word + position + type), so the vocabulary's 96 million numbers stay in the mapped
weights file. Matrices are quantised per column to ±63 of ±127: processors without VNNI add pairs of products in
16 bits and would saturate.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.memory.e5.weights import Weights, unpack_blocks

VERSION = 1  # part of the file's name: raise when the graph changes
LARGEST = 63
FLOAT, INT8, INT32 = 1, 3, 6
EXTRA = "com.microsoft"

# message -> (name, number, type, repeated); types: i int64, n int32, f float, s string, b bytes, or a message
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Dimension": (("dim_value", 1, "i", False), ("dim_param", 2, "s", False)),
    "Shape": (("dim", 1, "Dimension", True),),
    "TensorType": (("elem_type", 1, "n", False), ("shape", 2, "Shape", False)),
    "Type": (("tensor_type", 1, "TensorType", False),),
    "ValueInfo": (("name", 1, "s", False), ("type", 2, "Type", False)),
    "Tensor": (
        ("dims", 1, "i", True),
        ("data_type", 2, "n", False),
        ("name", 8, "s", False),
        ("raw_data", 9, "b", False),
    ),
    "Attribute": (("name", 1, "s", False), ("f", 2, "f", False), ("i", 3, "i", False), ("type", 20, "n", False)),
    "Node": (
        ("input", 1, "s", True),
        ("output", 2, "s", True),
        ("op_type", 4, "s", False),
        ("attribute", 5, "Attribute", True),
        ("domain", 7, "s", False),
    ),
    "Graph": (
        ("node", 1, "Node", True),
        ("name", 2, "s", False),
        ("initializer", 5, "Tensor", True),
        ("input", 11, "ValueInfo", True),
        ("output", 12, "ValueInfo", True),
    ),
    "OperatorSet": (("domain", 1, "s", False), ("version", 2, "i", False)),
    "Model": (
        ("ir_version", 1, "i", False),
        ("producer_name", 2, "s", False),
        ("graph", 7, "Graph", False),
        ("opset_import", 8, "OperatorSet", True),
    ),
}


def _classes() -> dict[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    types = {
        "i": field.TYPE_INT64,
        "n": field.TYPE_INT32,
        "f": field.TYPE_FLOAT,
        "s": field.TYPE_STRING,
        "b": field.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(name="zhixing_onnx.proto", package="zhixing_onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            made = message.field.add(name=field_name, number=number)
            made.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in types:
                made.type = types[kind]
            else:
                made.type, made.type_name = field.TYPE_MESSAGE, f".zhixing_onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"zhixing_onnx.{name}")) for name in _MESSAGES
    }


class _Graph:
    """Collects nodes and numbers."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.classes = weights, _classes()
        self.model = self.classes["Model"](ir_version=9, producer_name="zhixing")
        self.model.opset_import.add(domain="", version=18)
        self.model.opset_import.add(domain=EXTRA, version=1)
        self.graph = self.model.graph
        self.graph.name = "e5"

    def constant(self, name: str, numbers: npt.NDArray[Any]) -> str:
        kind = {"float32": FLOAT, "int8": INT8, "int32": INT32}[str(numbers.dtype)]
        raw = np.ascontiguousarray(numbers).tobytes()
        self.graph.initializer.add(name=name, dims=numbers.shape, data_type=kind, raw_data=raw)
        return name

    def value(self, where: Any, name: str, kind: int, dims: tuple[int | str, ...]) -> None:
        info = where.add(name=name)
        info.type.tensor_type.elem_type = kind
        for dim in dims:
            if isinstance(dim, int):
                info.type.tensor_type.shape.dim.add(dim_value=dim)
            else:
                info.type.tensor_type.shape.dim.add(dim_param=dim)

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: float) -> str:
        made = self.graph.node.add(op_type=op, input=inputs, output=outputs, domain=domain)
        for name, number in attributes.items():
            if isinstance(number, int):
                made.attribute.add(name=name, i=number, type=2)
            else:
                made.attribute.add(name=name, f=number, type=1)
        return outputs[0]

    def linear(self, x: str, parts: list[str], y: str, width: int) -> str:
        """One matrix for all `parts` (query, key and value share a product)."""
        matrix = np.concatenate([unpack_blocks(self.weights.blocks(f"{p}.w", width)) for p in parts]).T
        bias = np.concatenate([self.weights.floats(f"{p}.b") for p in parts])
        scale = np.maximum(np.abs(matrix).max(axis=0) / LARGEST, 1e-9).astype(np.float32)
        inputs = [
            x,
            self.constant(f"{y}.w", np.rint(matrix / scale).astype(np.int8)),
            self.constant(f"{y}.s", scale),
            self.constant(f"{y}.z", np.zeros(len(scale), np.int8)),
            self.constant(f"{y}.b", bias),
        ]
        return self.node("DynamicQuantizeMatMul", inputs, [y], EXTRA)

    def normed(self, x: str, beside: str, name: str, y: str) -> str:
        """Sum of two, normalised."""
        weight = self.constant(f"{y}.nw", self.weights.floats(f"{name}.w"))
        bias = self.constant(f"{y}.nb", self.weights.floats(f"{name}.b"))
        eps = self.weights.shape.eps
        return self.node("SkipLayerNormalization", [x, beside, weight, bias], [y], EXTRA, epsilon=eps)


def build(weights: Weights) -> bytes:
    """The model file. Inputs `x` [texts, pieces, hidden] and `mask` [texts, pieces]; output `hidden`."""
    shape = weights.shape
    g = _Graph(weights)
    g.value(g.graph.input, "x", FLOAT, ("B", "T", shape.hidden))
    g.value(g.graph.input, "mask", INT32, ("B", "T"))
    g.value(g.graph.output, "hidden", FLOAT, ("B", "T", shape.hidden))
    first = [g.constant("ln.w", weights.floats("emb.ln.w")), g.constant("ln.b", weights.floats("emb.ln.b"))]
    x = g.node("LayerNormalization", ["x", *first], ["x0"], axis=-1, epsilon=shape.eps)
    for n in range(shape.layers):
        p = f"l{n}"
        qkv = g.linear(x, [f"{p}.q", f"{p}.k", f"{p}.v"], f"{p}.qkv", shape.hidden)
        g.node("Split", [qkv], [f"{p}.oq", f"{p}.ok", f"{p}.ov"], axis=-1, num_outputs=3)
        looked = g.node(
            "MultiHeadAttention",
            [f"{p}.oq", f"{p}.ok", f"{p}.ov", "", "mask"],
            [f"{p}.c"],
            EXTRA,
            num_heads=shape.heads,
        )
        x = g.normed(g.linear(looked, [f"{p}.ao"], f"{p}.a", shape.hidden), x, f"{p}.aln", f"{p}.x1")
        inner = g.node("Gelu", [g.linear(x, [f"{p}.fi"], f"{p}.f", shape.hidden)], [f"{p}.g"], EXTRA)
        last = n == shape.layers - 1
        x = g.normed(
            g.linear(inner, [f"{p}.fo"], f"{p}.o", shape.inner), x, f"{p}.oln", "hidden" if last else f"{p}.x2"
        )
    out: bytes = g.model.SerializeToString()
    return out


def write_file(path: Path, data: bytes) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
