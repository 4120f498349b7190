"""The work that executors do: an attempt, the preparation of a run, the check of a model.

Each imports what does it, and TensorFlow with that, where it is done.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.data.cache import Stored
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.record.events import Doing
from orchestrator.training.attempt.task import Prepared, Standing, Task
from orchestrator.training.executors.executor import Emit


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptWork:
    """One attempt."""

    task: Task
    """All that it depends on."""

    @property
    def log(self) -> Path:
        """File that gets what the attempt prints."""
        return self.task.directory / "log.txt"

    @property
    def patience(self) -> float:
        """Seconds without a report after which the attempt counts as hung."""
        return self.task.config.stall_timeout

    def do(self, emit: Emit) -> Standing | None:
        """Train the attempt; see `attempt.train`."""
        from orchestrator.training.attempt import attempt  # noqa: PLC0415

        return attempt.train(self.task, emit)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PrepareWork:
    """Building data and model of a config and fitting them together, with nothing trained."""

    config: Config
    """The config."""
    folder: Path
    """Gets the data, where that is not stored yet."""
    stored: Stored | None = None
    """Where the data is; None where it is still to be read, with a report now and then."""
    findings: bool = False
    """Look for what stands against the training, too; an attempt does so for itself."""
    log: Path = Path(os.devnull)
    """File that gets what the building prints."""

    @property
    def patience(self) -> float:
        """Seconds without a report after which the reading, or the building, counts as hung."""
        return self.config.stall_timeout

    def do(self, emit: Emit) -> tuple[Prepared, Stored]:
        """Build both; see `preparation.prepare`.

        Returns:
            What was found, and where the attempts find the data.
        """
        from orchestrator.training.attempt.building import preparation  # noqa: PLC0415

        def tell(what: str) -> None:
            emit(Doing(what=what))

        stored = self.stored
        if stored is None:
            tell("reading rows")
            dataset, stored = preparation.store(self.config, self.folder, emit)
        else:
            dataset = preparation.load(self.config, stored)
        prepared = preparation.prepare(self.config, dataset, tell, findings=self.findings)
        return prepared, stored


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReadWork:
    """Reading the data of a run that goes on, whose model was tried when it began."""

    config: Config
    """The config."""
    folder: Path
    """Gets the data."""
    log: Path = Path(os.devnull)
    """File that gets what the reading prints."""

    @property
    def patience(self) -> float:
        """Seconds without a report after which the reading counts as hung."""
        return self.config.stall_timeout

    def do(self, emit: Emit) -> Stored:
        """Read it; see `preparation.store`."""
        from orchestrator.training.attempt.building import preparation  # noqa: PLC0415

        emit(Doing(what="reading rows"))
        return preparation.store(self.config, self.folder, emit)[1]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExploreWork:
    """Finding the hyperparameters that the user's function asks for."""

    config: Config
    """The config."""
    log: Path = Path(os.devnull)
    """File that gets what the building prints."""

    @property
    def patience(self) -> float:
        """Seconds after which the building counts as hung."""
        return self.config.stall_timeout

    def do(self, emit: Emit) -> tuple[dict[str, Any], ...]:
        """Find them; see `hyperparameters.explore`."""
        builder = user_code.factory(self.config)
        if builder is None or builder.hyperparameters is None:
            return ()
        from orchestrator.model import hyperparameters  # noqa: PLC0415

        return hyperparameters.explore(self.config)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckWork:
    """The diagnosis of a model that was trained elsewhere."""

    examinee: Examinee
    """The model and the rows."""
    log: Path = Path(os.devnull)
    """File that gets what the diagnosis prints."""
    patience: float = math.inf
    """Seconds after which the diagnosis counts as hung; it reports nothing on the way."""

    def do(self, emit: Emit) -> Health:
        """Diagnose the model; see `diagnose.check`."""
        from orchestrator.diagnosis.diagnose import check  # noqa: PLC0415

        return check(self.examinee, lambda detail: emit(Doing(what="checking", detail=detail)))
