"""What a case is, and the words that the cases are written in."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

ROWS = 1000
MAX_ATTEMPTS = 8

Half = Literal["tuned", "held_out"]
Kind = Literal["repairable", "healthy", "hopeless"]
Layers = list[dict[str, Any]]
Phases = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network that fails, or one that does not."""

    about: str
    half: Half
    """Whether the policy may be tuned by it, or is only measured on it."""
    model: dict[str, Any]
    phases: Phases
    data: dict[str, Any]
    optimizer: dict[str, Any]
    kind: Kind = "repairable"
    """What is expected: a repair, no restart, or an honest end, untrained where it is certain."""
    loss: str = "mse"
    batch_size: int = 64
    known: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The best settings known, laid over the config."""
    late: bool = False
    """Whether that it is hopeless can only be seen at the end of a training."""

    @property
    def epochs(self) -> int:
        return sum(phase["epochs"] for phase in self.phases)

    def document(self, seed: int, **changes: Any) -> dict[str, Any]:
        return {
            "seed": seed,
            "data": {"train": self.data},
            "model": self.model,
            "compile": compiled(self.optimizer, self.loss),
            "batch_size": self.batch_size,
            "phases": self.phases,
            "restart": {"max_attempts": MAX_ATTEMPTS},
            **changes,
        }


def compiled(optimizer: dict[str, Any], loss: str = "mse") -> dict[str, Any]:
    return {"optimizer": optimizer, "loss": loss}


def adam(rate: float) -> dict[str, Any]:
    return {"Adam": {"learning_rate": rate}}


def sgd(rate: float) -> dict[str, Any]:
    return {"SGD": {"learning_rate": rate}}


def rows(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"callable": f"rows:{name}", "kwargs": kwargs}


def network(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"factory": {"callable": f"networks:{name}", "kwargs": kwargs}}


def epochs(count: int) -> Phases:
    return [{"name": "main", "epochs": count}]


def shock(before: int, rate: float, after: int, *, during: int = 3) -> Phases:
    return [
        {"name": "before", "epochs": before},
        {"name": "shock", "epochs": during, "learning_rate": rate},
        {"name": "after", "epochs": after},
    ]


def dense(units: int, activation: str = "relu", **options: Any) -> dict[str, Any]:
    he = {"kernel_initializer": "he_normal"} if activation in ("relu", "leaky_relu") else {}
    return {"Dense": {"units": units, "activation": activation, **he, **options}}


def stack(
    depth: int, width: int, *, ends: int = 1, end: str = "linear", **hidden: Any
) -> dict[str, Any]:
    """Hidden layers, and an output of so many units."""
    return {"layers": [dense(width, **hidden)] * depth + [dense(ends, end)]}


def dropped(depth: int, width: int, rate: float, activation: str = "relu") -> dict[str, Any]:
    """Layers that each leave a share of their units out."""
    hidden: Layers = [dense(width, activation), {"Dropout": {"rate": rate}}]
    return {"layers": [*hidden * depth, dense(1, "linear")]}


def normed(depth: int, width: int, **statistics: Any) -> dict[str, Any]:
    block: Layers = [dense(width, "linear"), {"BatchNormalization": statistics}, {"ReLU": {}}]
    return {"layers": [*block * depth, dense(1, "linear")]}


def convolutions(*, norm: dict[str, Any] | None = None) -> dict[str, Any]:
    layers: Layers = []
    for filters in (8, 16):
        layers.append({"Conv2D": {"filters": filters, "kernel_size": 3}})
        layers += [] if norm is None else [{"BatchNormalization": norm}]
        layers.append({"ReLU": {}})
    return {"layers": [*layers, {"Flatten": {}}, dense(32), dense(4, "softmax")]}


def recurrent(kind: str, **options: Any) -> dict[str, Any]:
    return {"layers": [{kind: {"units": 16, **options}}, dense(16), dense(1, "linear")]}
