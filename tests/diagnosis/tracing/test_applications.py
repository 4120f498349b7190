"""Every family of `keras.applications`: how many sites there are, by activation.

The expected numbers are counted in Keras's source of each architecture.
"""

import inspect
import time
from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Measurement, Probe

SMALLEST: dict[str, tuple[int, dict[str, Any], dict[str, int]]] = {
    # 42 Relu and Relu6 operations, 28 of them inside gates.
    "MobileNetV3Small": (32, {}, {"relu": 14, "hard_silu": 19, "hard_sigmoid": 9}),
    "MobileNet": (32, {"alpha": 0.25}, {"relu6": 27}),
    "VGG16": (32, {"include_top": False}, {"relu": 13}),
    "ConvNeXtTiny": (32, {}, {"gelu": 18}),
}
"""Side of the smallest image, further arguments, and the sites by activation: of four families."""

LARGER: dict[str, tuple[int, dict[str, Any], dict[str, int]]] = {
    "InceptionResNetV2": (75, {}, {"relu": 243}),
    "NASNetMobile": (32, {"include_top": False}, {"relu": 192}),
    "DenseNet121": (32, {}, {"relu": 121}),
    "InceptionV3": (75, {}, {"relu": 94}),
    "EfficientNetV2B0": (32, {}, {"silu": 55, "sigmoid": 16}),
    "ResNet50": (32, {}, {"relu": 49}),
    "ResNet50V2": (32, {}, {"relu": 49}),
    "MobileNetV2": (32, {"alpha": 0.35}, {"relu6": 35}),
    "EfficientNetB0": (32, {}, {"silu": 49, "sigmoid": 16}),
    "MobileNetV3Large": (32, {}, {"relu": 19, "hard_silu": 21, "hard_sigmoid": 8}),
    "Xception": (71, {}, {"relu": 35}),
    "VGG19": (32, {"include_top": False}, {"relu": 16}),
    **{f"ResNet{depth}{version}": (32, {}, {"relu": relu})
       for depth, relu in ((101, 100), (152, 151)) for version in ("", "V2")},
    **{f"DenseNet{depth}": (32, {}, {"relu": depth}) for depth in (169, 201)},
    **{f"ConvNeXt{size}": (32, {}, {"gelu": 36}) for size in ("Small", "Base", "Large", "XLarge")},
    # Two of the stem and the top, two a block and one more where it expands; a gate a block.
    **{f"EfficientNet{size}": (32, {}, {"silu": silu, "sigmoid": gates})
       for size, silu, gates in (
           ("B1", 69, 23), ("B2", 69, 23), ("B3", 78, 26), ("B4", 96, 32), ("B5", 116, 39),
           ("B6", 134, 45), ("B7", 163, 55), ("V2B1", 67, 19), ("V2B2", 70, 20), ("V2B3", 82, 24),
           ("V2S", 102, 30), ("V2M", 147, 44), ("V2L", 203, 61),
       )},
    "NASNetLarge": (32, {"include_top": False}, {"relu": 264}),
}  # fmt: skip
"""The others, for the sweep."""

APPLICATIONS = SMALLEST | LARGER


def built(name: str) -> keras.Model:
    side, arguments, _ = APPLICATIONS[name]
    arguments = {"classes": 10} | arguments if arguments.get("include_top", True) else arguments
    family = getattr(keras.applications, name)
    return family(weights=None, input_shape=(side, side, 3), **arguments)


def measured(model: keras.Model) -> Measurement:
    x = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    return Probe(model).measure(Rows(x=x.astype(np.float32), y=None))


@pytest.mark.parametrize(
    "name", [*SMALLEST, *(pytest.param(name, marks=pytest.mark.sweep) for name in LARGER)]
)
def test_every_activation_of_an_application_is_found(name: str) -> None:
    model = built(name)
    begin = time.perf_counter()

    found = measured(model)

    seconds = time.perf_counter() - begin
    count = Counter(layer.activation for layer in found.layers)
    shown = ", ".join(f"{number} {activation}" for activation, number in count.items())
    print(f"\n{name:18} {len(found.layers):4} sites: {shown:45} {seconds:6.1f} s")  # noqa: T201
    names = [layer.name for layer in found.layers]
    assert count == APPLICATIONS[name][2]
    assert len(set(names)) == len(names)
    assert {each.split("/")[-1] for each in names} <= {each.name for each in model.layers}
    assert found.notes == ()


def test_no_application_is_left_out() -> None:
    models = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert models == set(APPLICATIONS)
