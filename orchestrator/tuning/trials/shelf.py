"""What the runs of a search have in common: the rows of a seed, and what is known of a model.

Rows are read once for each seed, and a model is built and fitted to them once, unless a trial
changes more than the seed and the policy.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from orchestrator.config.schema import Config
from orchestrator.config.sections.data import Split
from orchestrator.config.sections.remedies import Reinitialize
from orchestrator.config.sections.restart import Restart
from orchestrator.data import load as data
from orchestrator.data.cache import Stored
from orchestrator.errors import UserCodeError
from orchestrator.record.events import Event, Heartbeat
from orchestrator.record.records import Inputs
from orchestrator.training import launch
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.executors.executor import Died, Executor, Finished, Raised, result_of
from orchestrator.training.work import PrepareWork

_Key = tuple[str, frozenset[str]]


class Shelf:
    """Keeps it.

    Args:
        executor: reads and builds what runs code of the user's.
        folder: gets the rows.
    """

    def __init__(self, executor: Executor, folder: Path) -> None:
        self._executor = executor
        self._folder = folder
        self._rows: dict[int, Stored | None] = {}
        self._prepared: dict[_Key, Prepared] = {}
        self._reading = threading.Lock()
        self._preparing = threading.Lock()

    def rows(self, config: Config) -> Stored | None:
        """Where the rows of a config are; None where they are a stream.

        Raises:
            OrchestratorError: the data is at fault, or what reads it.
        """
        key = _rows_key(config)
        with self._reading:
            if key not in self._rows:
                folder = self._folder / f"seed-{key}"
                folder.mkdir(exist_ok=True)
                self._rows[key] = self._read(config, folder)
            return self._rows[key]

    def work(self, config: Config) -> PrepareWork:
        """The building of data and model of a config."""
        return PrepareWork(config=config, folder=self._folder, stored=self.rows(config))

    def prepare(self, config: Config) -> Prepared:
        """Build data and model of a config and fit them together, with nothing trained.

        Raises:
            OrchestratorError: one of them is at fault.
        """
        prepared, _ = result_of(self._executor.run(self.work(config), _ignore))
        return prepared

    def prepared(self, work: PrepareWork) -> Prepared | None:
        """The same, from another run with such a model where there was one.

        Returns:
            None where the user's code raised or its process died, which the run is to record, and
            where the rows are a stream.

        Raises:
            OrchestratorError: data or model is at fault.
        """
        stored = work.stored
        if stored is None:
            return None
        key = _model_key(work.config)
        with self._preparing:
            if key not in self._prepared:
                match self._executor.run(work, _ignore):
                    case Finished((found, _)):
                        self._prepared[key] = found
                    case Died() | Raised(UserCodeError()):
                        return None
                    case Raised(error):
                        raise error
            found = self._prepared[key]
        return dataclasses.replace(found, fingerprint=stored.fingerprint, inputs=_inputs(stored))

    def _read(self, config: Config, folder: Path) -> Stored | None:
        if not data.has_user_code(config):
            return launch.read(config, folder)
        work = PrepareWork(config=config, folder=folder)
        _, stored = result_of(self._executor.run(work, _ignore))
        return stored


def _rows_key(config: Config) -> int:
    """What tells the rows of two seeds apart."""
    seeded = isinstance(config.data.validation, Split) or data.has_user_code(config)
    return config.seed if seeded else 0


def _model_key(config: Config) -> _Key:
    """What tells two models and all that is tried on them apart."""
    initializers = {
        rung.initializer for _, rung in config.restart.rungs() if isinstance(rung, Reinitialize)
    }
    model = config.model_copy(update={"seed": 0, "restart": Restart()})
    return model.dump(), frozenset(initializers)


def _inputs(stored: Stored) -> Inputs:
    return Inputs(
        columns=stored.train.columns,
        categories={**stored.encoding.categories, **stored.encoding.classes},
        standardization={path: each.describe() for path, each in stored.scalings.items()},
    )


def _ignore(report: Event | Heartbeat) -> None:
    """Take a report of work that makes none."""
