"""What the units of a model do: on how many rows each is active, and what it feeds.

Pure NumPy: no model, no file. The definitions are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

INPUT = "input"
"""Name of the model's inputs as a source in `Flow`."""
NEAR_DEAD = 0.001
"""Share of rows under which a unit that is not dead counts as near-dead."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One activation site, and on how many rows its units were active."""

    name: str
    """Readable path of the layer in the model."""
    activation: str
    """Keras's name of the activation."""
    rows: int
    """Rows × positions looked at."""
    active_rows: npt.NDArray[np.int64]
    """Rows × positions on which the unit's derivative was non-zero, shape (units,)."""
    constant_units: npt.NDArray[np.int64] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    """Indices of the units that were active on every row and had the same value on all."""
    reached_rows: npt.NDArray[np.int64] | None = None
    """Rows × positions on which the gradient of an output with respect to what goes into the unit
    was not zero, shape (units,); None where it was not asked for."""
    saturating: bool = False
    """The activation has no zero derivative in exact arithmetic; `dead` then means saturated."""
    partial: bool = False
    """A loop hides some of the applications, so that nothing is known to be dead."""

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.active_rows.size)

    @property
    def dead_units(self) -> npt.NDArray[np.int64]:
        """Indices of the units that were active on no row."""
        return np.flatnonzero(self.active_rows == 0)

    @property
    def dead(self) -> int:
        """Number of dead units; none of a saturating activation counts as dead."""
        return 0 if self.saturating or self.partial else int(self.dead_units.size)

    @property
    def saturated(self) -> int:
        """Number of saturated units."""
        return int(self.dead_units.size) if self.saturating else 0

    @property
    def dead_fraction(self) -> float:
        """Dead share of the units, 0 to 1."""
        return self.dead / self.units if self.units else 0.0

    @property
    def blocked_units(self) -> npt.NDArray[np.int64] | None:
        """Indices of the units that are active on some rows, but get no gradient on any."""
        if self.reached_rows is None:
            return None
        return np.flatnonzero((self.active_rows > 0) & (self.reached_rows == 0))

    @property
    def near_dead(self) -> int:
        """Number of units active on some rows, but on fewer than 0.1% of them."""
        few = (self.active_rows > 0) & (self.active_rows < self.near_dead_rows)
        return int(np.count_nonzero(few))

    @property
    def near_dead_rows(self) -> float:
        """Rows × positions below which a unit is near-dead."""
        return NEAR_DEAD * self.rows


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Which sites and outputs feed which: what each one is reached from directly.

    Sources are indices of layers, or `INPUT`.
    """

    layers: tuple[frozenset[int | str], ...]
    """Sources of each layer."""
    outputs: tuple[frozenset[int | str], ...]
    """Sources of each output."""
    names: tuple[str, ...] = ()
    """Keras's names of the outputs, where there are several."""
    ends: tuple[int | None, ...] = ()
    """The layer whose activation makes each output; None where none does."""
    made_by: tuple[str, ...] = ()
    """TensorFlow's name of the operation that makes each output, such as `Softmax`."""
    logits: tuple[str, ...] = ()
    """Where Keras's cross-entropies find the logits of each output, see `Origin.found`."""

    def cut_outputs(self, dead: Iterable[int]) -> list[int]:
        """Outputs that no path reaches from the inputs once the dead layers are taken away."""
        dead = frozenset(dead)
        return [
            output
            for output, sources in enumerate(self.outputs)
            if INPUT in self._ancestors(sources, frozenset())
            and INPUT not in self._ancestors(sources, dead)
        ]

    def leaving_out(self, outputs: Iterable[int]) -> Flow:
        """The same with outputs that nobody trains: no dead layer cuts them off or is fed to."""
        aside = frozenset(outputs)
        sources = (
            frozenset({INPUT}) if index in aside else found
            for index, found in enumerate(self.outputs)
        )
        return dataclasses.replace(self, outputs=tuple(sources))

    def feeds(self, layer: int) -> list[int]:
        """Outputs that the layer has a path to."""
        return [
            output
            for output, sources in enumerate(self.outputs)
            if layer in self._ancestors(sources, frozenset())
        ]

    def _ancestors(self, sources: frozenset[int | str], blocked: frozenset[int]) -> set[int | str]:
        found: set[int | str] = set()
        stack = list(sources)
        while stack:
            source = stack.pop()
            if source in found or source in blocked:
                continue
            found.add(source)
            if isinstance(source, int):
                stack.extend(self.layers[source])
        return found


NO_FLOW = Flow(layers=(), outputs=())
"""That of a model whose rows were not run through it."""


def cut(layers: Sequence[Layer], flow: Flow) -> tuple[list[int], list[int]]:
    """The entirely dead layers, and the outputs that they cut off from the inputs."""
    dead = [
        index for index, layer in enumerate(layers) if layer.units and layer.dead == layer.units
    ]
    return dead, flow.cut_outputs(dead)


def livelier(moving: Layer, batch: Layer) -> Layer:
    """The layer as it counts: a unit that only BatchNorm's moving statistics kill is not dead."""
    return batch if batch.dead < moving.dead else moving


def cut_reason(judged: Sequence[Layer], flow: Flow) -> str | None:
    """Why an output is cut off, naming a layer that is enough to cut it where there is one.

    Args:
        judged: the layers, each as it counts.
        flow: which of them feed which.

    Returns:
        One clause, or None where every output can be reached.
    """
    dead, outputs = cut(judged, flow)
    if not outputs:
        return None
    alone = [index for index in dead if outputs[0] in flow.cut_outputs([index])]
    layer = judged[(alone or dead)[0]]
    more = len(dead) - 1
    others = f", and so {'are' if more > 1 else 'is'} {more} more" if more else ""
    return (
        f"layer {layer.name} is entirely dead ({layer.dead} of {layer.units} units) on "
        f"{layer.rows} rows{others}; nothing gets through to {names_of(outputs, flow)}"
    )


def names_of(indices: Sequence[int], flow: Flow) -> str:
    """Outputs by name, as part of a sentence."""
    if len(flow.outputs) == 1:
        return "the output"
    names = [flow.names[index] if flow.names else str(index) for index in indices]
    return f"output{'s' * (len(indices) > 1)} {', '.join(names)}"
