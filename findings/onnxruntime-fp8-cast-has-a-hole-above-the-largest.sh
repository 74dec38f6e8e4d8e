#!/usr/bin/env bash
# Version:   onnxruntime 1.32.0 and onnx 1.23.2 with its reference evaluator, numpy 2.2.6 (PyPI). The CPU's kernels.
# Input:     a model of two nodes: `Cast` to an FP8 type with `saturate=0`, and `Cast` back to float32; every positive finite
#            float16 goes in. For that attribute the operator's table asks for NaN in E4M3FN, and for infinity in E5M2, of all
#            that rounds to more than the largest number (448 and 57344).
# Behaviour: numbers from 464 on become NaN, those of the step from 480 to 496 become 448 again, and those above it NaN. A
#            larger weight is then finite where a smaller one is not, and the test "is it 448 or NaN?" is no test of
#            overflow. In E5M2 the last step before 65536 is NaN where infinity is asked for, and 65536 is infinite. The
#            reference evaluator follows the table, and with `saturate=1` both agree everywhere.
# Seen:      2026-11-28
seen="E4M3FN: 470 nan, 480 448, 495 448, 496 nan; float16 numbers apart from the reference 64, from 480 to 495.75; "
seen+="E5M2: 61408 57344, 61440 nan, 65504 nan, 65536 inf; apart 128, from 61440 to 65504; saturating: apart 0 and 0"
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

onnxruntime.set_default_logger_severity(4)
halves = numpy.arange(0x7C00, dtype=numpy.uint16).view(numpy.float16).astype(numpy.float32)

def model_of(kind, saturate):
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["wide"], ["narrow"], to=kind, saturate=saturate),
            helper.make_node("Cast", ["narrow"], ["back"], to=TensorProto.FLOAT),
        ],
        "there_and_back",
        [helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("back", TensorProto.FLOAT, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)

def through_both(kind, numbers, saturate):
    model = model_of(kind, saturate)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"wide": numpy.array(numbers, numpy.float32)}
    return session.run(None, feed)[0], ReferenceEvaluator(model).run(None, feed)[0]

def apart(kind, saturate):
    ours, reference = through_both(kind, halves, saturate)
    return halves[~((ours == reference) | (numpy.isnan(ours) & numpy.isnan(reference)))]

def shown(name, kind, numbers, label):
    each = ", ".join(f"{number} {cast:g}" for number, cast in zip(numbers, through_both(kind, numbers, 0)[0]))
    hole = apart(kind, 0)
    return f"{name}: {each}; {label} {len(hole)}, from {hole[0]:g} to {hole[-1]:g}"

e4m3, e5m2 = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2
print("; ".join([
    shown("E4M3FN", e4m3, [470, 480, 495, 496], "float16 numbers apart from the reference"),
    shown("E5M2", e5m2, [61408, 61440, 65504, 65536], "apart"),
    f"saturating: apart {len(apart(e4m3, 1))} and {len(apart(e5m2, 1))}",
]))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "onnxruntime no longer casts what is above the largest FP8 number as this script says" >&2
    exit 1
fi
