"""Units by hand: what counts as dead, and what a dead layer cuts off."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.diagnosis.units import INPUT, Flow, Layer


def _layer(active_rows: list[int], *, rows: int = 1000, saturating: bool = False) -> Layer:
    return Layer(
        name="dense",
        activation="relu",
        rows=rows,
        active_rows=np.array(active_rows, dtype=np.int64),
        saturating=saturating,
    )


# ------------------------------------------------------------------------------- layers


def test_a_unit_that_is_active_on_no_row_is_dead() -> None:
    layer = _layer([0, 5, 0, 1000])
    assert (layer.units, layer.dead, layer.dead_fraction) == (4, 2, 0.5)
    assert layer.dead_units.tolist() == [0, 2]


def test_one_active_row_is_alive_and_below_a_thousandth_near_dead() -> None:
    layer = _layer([1, 49, 50, 0], rows=50_000)
    assert (layer.dead, layer.near_dead) == (1, 2)


def test_units_of_a_saturating_activation_are_saturated_and_never_dead() -> None:
    layer = _layer([0, 0, 3], saturating=True)
    assert (layer.dead, layer.dead_fraction, layer.saturated) == (0, 0.0, 2)
    assert _layer([0, 0, 3]).saturated == 0


def test_a_layer_without_units_is_not_dead() -> None:
    assert _layer([]).dead_fraction == 0.0


# ------------------------------------------------------------------------------- flow


def _flow(layers: list[set[int | str]], outputs: list[set[int | str]]) -> Flow:
    return Flow(
        layers=tuple(frozenset(sources) for sources in layers),
        outputs=tuple(frozenset(sources) for sources in outputs),
    )


CHAIN = _flow([{INPUT}, {0}], [{1}])
DIAMOND = _flow([{INPUT}, {0}, {0}, {1, 2}], [{3}])
RESIDUAL = _flow([{INPUT}, {0, INPUT}], [{1}])
TWO_HEADS = _flow([{INPUT}, {0}, {0}], [{1}, {2}])


@pytest.mark.parametrize(
    ("flow", "dead", "outputs"),
    [
        (CHAIN, [], []),
        (CHAIN, [0], [0]),
        (CHAIN, [1], [0]),
        (DIAMOND, [1], []),
        (DIAMOND, [2], []),
        (DIAMOND, [1, 2], [0]),
        (DIAMOND, [0], [0]),
        (DIAMOND, [3], [0]),
        (RESIDUAL, [0], []),
        (RESIDUAL, [1], [0]),
        (TWO_HEADS, [1], [0]),
        (TWO_HEADS, [2], [1]),
        (TWO_HEADS, [0], [0, 1]),
        (_flow([{INPUT}], [{0, INPUT}]), [0], []),
        (_flow([], [{INPUT}]), [], []),
    ],
)
def test_dead_layers_cut_an_output_when_no_path_is_left(
    flow: Flow, dead: list[int], outputs: list[int]
) -> None:
    assert flow.cut_outputs(dead) == outputs


def test_an_output_that_never_hung_on_the_inputs_is_not_cut() -> None:
    assert _flow([set()], [{0}]).cut_outputs([0]) == []


def test_a_layer_feeds_the_outputs_that_it_has_a_path_to() -> None:
    assert [TWO_HEADS.feeds(layer) for layer in range(3)] == [[0, 1], [0], [1]]
    assert _flow([{INPUT}, {INPUT}], [{0}]).feeds(1) == []
