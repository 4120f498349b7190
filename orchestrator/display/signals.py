"""The table of what a training's gradients have told of each layer's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.diagnosis.watch.epochs import EpochSignals
from orchestrator.display.charts import Legible
from orchestrator.display.text import clean


def describe_signals(
    epochs: Sequence[EpochSignals], last_heard: Mapping[str, npt.NDArray[np.int64]]
) -> RenderableType:
    """How many units of each layer are silent, and since when.

    Args:
        epochs: what came back in each epoch.
        last_heard: the last epoch in which each unit got a gradient, by the layer's name.
    """
    if not epochs:
        return Text("No epoch was watched.")
    last = epochs[-1]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for name in ("units", "silent"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("since epoch", overflow="fold")
    for name in ("gradient norm", "weights moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in last.layers:
        silent = Text(str(each.silent), "red" if each.silent == each.units else "")
        table.add_row(
            Text(clean(each.layer)),
            str(each.units),
            silent,
            _since(last_heard[each.layer], last.epoch),
            f"{each.gradient_norm:.3g}",
            f"{each.update_ratio:.2%}",
        )
    return Legible(table)


def _since(heard: npt.NDArray[np.int64], epoch: int) -> str:
    """The first silent epoch of the units that are silent, with how many it is of."""
    starts, counts = np.unique(heard[heard < epoch] + 1, return_counts=True)
    most = sorted(zip(starts.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
    shown = ", ".join(f"{start} ({count})" for start, count in sorted(most[:3]))
    return f"{shown}, …" if len(most) > 3 else shown
