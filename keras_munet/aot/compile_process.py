"""Compiles one module for TPUs that are not there: a process of its own.

    python -m keras_munet.aot.compile_process REQUEST.json ANSWER.json

Invariant: JAX's copy of the compiler and TensorFlow never meet in one process,
and what the compiler does to its process ends with it. `compiler` says what a
request and an answer hold.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax.experimental import topologies
from jaxlib.mlir import ir

_COLLECTIVE = re.compile(
    r" = (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\("
)
_SHAPE = re.compile(r"\b([a-z]+)(\d+)[a-z0-9]*\[([\d,]*)\]")
_BITS_PER_BYTE = 8
# What no chip has: the compiler's refusal of it tells what a chip has.
_PROBE_NUM_ARRAYS = 1024
_PROBE_NUM_FLOATS = 2**28


def answer_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the compiler's figures, or its refusal under `error`."""
    topology = topologies.get_topology_desc(
        platform="tpu",
        topology_name=request["topology"],
        **request["options"],
    )
    by_coordinates = {
        (*device.coords, device.core_on_chip): device
        for device in topology.devices
    }
    devices = [
        by_coordinates[tuple(coordinates)] for coordinates in request["devices"]
    ]
    with mlir.make_ir_context():
        if request["hlo"] is None:
            module = ir.Module.parse(_probe())
        else:
            with open(request["hlo"], "rb") as file:
                module = ir.Module.parse(
                    _jax.mlir.hlo_to_stablehlo(file.read())
                )
            _donate(module, request["aliases"])
        started = time.perf_counter()
        try:
            compiled = devices[0].client.compile(
                module,
                executable_devices=_jax.DeviceList(tuple(devices)),
                compile_options=compiler.get_compile_options(
                    num_replicas=len(devices),
                    num_partitions=1,
                    device_assignment=np.array(devices)[:, None],
                ),
            )
        except jax.errors.JaxRuntimeError as e:
            return {"error": str(e)}
    secs = time.perf_counter() - started
    memory = compiled.get_compiled_memory_stats()
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        "compile_secs": secs,
        "peak_bytes": memory.peak_memory_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "flops": cost["flops"],
        "accessed_bytes": cost["bytes accessed"],
        "collectives": _collectives(compiled.hlo_modules()[0].to_string()),
    }


def _probe() -> str:
    """Returns a module that hands through more than any chip holds."""
    tensor_type = f"tensor<{_PROBE_NUM_FLOATS}xf32>"
    names = [f"%a{i}" for i in range(_PROBE_NUM_ARRAYS)]
    kinds = ", ".join([tensor_type] * len(names))
    params = ", ".join(f"{name}: {tensor_type}" for name in names)
    return (
        f"module @probe {{ func.func public @main({params}) -> ({kinds}) {{ "
        f"return {', '.join(names)} : {kinds} }} }}"
    )


def _donate(module: ir.Module, aliases: Mapping[str, int]) -> None:
    """Has variables updated in place, as a TPU's runtime does."""
    module.operation.attributes["sym_name"] = ir.StringAttr.get("step")
    (main,) = (
        op
        for op in module.body.operations
        if op.operation.name == "func.func"
        and ir.StringAttr(op.attributes["sym_name"]).value == "main"
    )
    number = ir.IntegerType.get_signless(32)
    marks: list[dict[str, ir.Attribute]] = [{} for _ in main.type.inputs]
    for argument, output in aliases.items():
        marks[int(argument)] = {
            "tf.aliasing_output": ir.IntegerAttr.get(number, output)
        }
    main.attributes["arg_attrs"] = ir.ArrayAttr.get(
        [ir.DictAttr.get(mark) for mark in marks]
    )


def _collectives(text: str) -> dict[str, list[int]]:
    """Returns kind -> [how many, bytes each core puts in] of a module."""
    collectives: dict[str, list[int]] = {}
    for shape, operation in _COLLECTIVE.findall(text):
        counts = collectives.setdefault(operation, [0, 0])
        counts[0] += 1
        counts[1] += sum(
            int(bits) // _BITS_PER_BYTE * _product(sides)
            for _, bits, sides in _SHAPE.findall(shape)
        )
    return collectives


def _product(sides: str) -> int:
    return int(np.prod([int(side) for side in sides.split(",") if side]))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as request_file:
        result = answer_request(json.load(request_file))
    with open(sys.argv[2], "w", encoding="utf-8") as result_file:
        json.dump(result, result_file)
