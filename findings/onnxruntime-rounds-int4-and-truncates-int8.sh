#!/usr/bin/env bash
# Version:   onnxruntime 1.32.0 and onnx 1.23.2 with its reference evaluator, numpy 2.2.6 (PyPI). The CPU's kernels.
# Input:     eight float32 numbers, all inside the range of INT4, through `Cast` to INT4 and to INT8, and through
#            `QuantizeLinear` to INT4 with a scale of 1. `Cast` may be asked for any of these types.
# Behaviour: one runtime has three roundings for one number. `Cast` to INT8 cuts the fraction off; `Cast` to INT4 rounds, and
#            moves a tie away from zero; `QuantizeLinear` to INT4 rounds a tie to even. 2.5 is 2, 3 and 2; -1.5 is -1, -2 and
#            -2. onnx's own evaluator cuts the fraction off for both types, so that a model which packs its integer weights by
#            `Cast` gives other weights in the runtime than in the reference.
# Seen:      2026-11-28
seen="numbers 0.5 0.75 1.5 2.5 6.5 -0.5 -1.5 -2.5; runtime: Cast to INT8 0 0 1 2 6 0 -1 -2, "
seen+="Cast to INT4 1 1 2 3 7 -1 -2 -3, QuantizeLinear to INT4 0 1 2 2 6 0 -2 -2; "
seen+="reference: Cast to INT8 0 0 1 2 6 0 -1 -2, Cast to INT4 0 0 1 2 6 0 -1 -2"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6

found=$("$python" -W ignore - <<'PYTHON'
import numpy
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

numbers = numpy.array([0.5, 0.75, 1.5, 2.5, 6.5, -0.5, -1.5, -2.5], numpy.float32)

def model_of(narrowing, constants=()):
    graph = helper.make_graph(
        [narrowing, helper.make_node("Cast", ["narrow"], ["back"], to=TensorProto.FLOAT)],
        "there_and_back",
        [helper.make_tensor_value_info("wide", TensorProto.FLOAT, [len(numbers)])],
        [helper.make_tensor_value_info("back", TensorProto.FLOAT, [len(numbers)])],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)

def cast(kind):
    return model_of(helper.make_node("Cast", ["wide"], ["narrow"], to=kind))

def quantize_to_int4():
    node = helper.make_node("QuantizeLinear", ["wide", "scale", "zero_point"], ["narrow"])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0])
    zero_point = helper.make_tensor("zero_point", TensorProto.INT4, [], [0])
    return model_of(node, [scale, zero_point])

def by_runtime(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"wide": numbers})[0]

def by_reference(model):
    return ReferenceEvaluator(model).run(None, {"wide": numbers})[0]

def listed(values, form):
    return " ".join(format(value, form) for value in values)

int8, int4 = cast(TensorProto.INT8), cast(TensorProto.INT4)
def integers(values):
    return listed(values.astype(int), "d")
print(
    f"numbers {listed(numbers, 'g')}; runtime: Cast to INT8 {integers(by_runtime(int8))}, "
    f"Cast to INT4 {integers(by_runtime(int4))}, QuantizeLinear to INT4 {integers(by_runtime(quantize_to_int4()))}; "
    f"reference: Cast to INT8 {integers(by_reference(int8))}, Cast to INT4 {integers(by_reference(int4))}"
)
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "onnxruntime no longer rounds INT4 and INT8 as this script says" >&2
    exit 1
fi
