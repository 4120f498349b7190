"""What is recorded of a search: its parameters, trials and final comparison, and how it is read.

The field names are the JSON keys of `search.json`. One trial holds whole runs, each of which has a
run directory of its own below the search's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from orchestrator.errors import RecordError
from orchestrator.record.encoding import Record, decode_file, decoder
from orchestrator.record.records import RunStatus
from orchestrator.record.storage.archive import is_owned
from orchestrator.record.storage.directory import SearchPaths, read_file

SCHEMA = 1
"""Version of the record's shape; a reader refuses a greater one."""

BASE = 1
"""Number of the trial that is the base config itself."""

SearchStatus = Literal["running", "finished", "interrupted", "error"]
TrialStatus = Literal["running", "completed", "cut", "failed"]
Kind = Literal["float", "int", "choice", "boolean"]
Direction = Literal["min", "max"]
Arm = Literal["default", "given", "tuned"]
"""What is compared in the end: the default policy; the config's own, where it has one; the best
trial's values."""


class Parameter(Record, kw_only=True):
    """One dimension of the space that is searched."""

    path: str
    """Dotted path of the config's key, or the name of a hyperparameter of the user's model."""
    kind: Kind
    """What its values are."""
    low: float | None = None
    """Smallest value of a number."""
    high: float | None = None
    """Greatest value of a number, itself included."""
    step: float | None = None
    """Distance of neighbouring values of a number; None where every one between may be drawn."""
    log: bool = False
    """Whether a number is drawn uniformly on a logarithmic scale."""
    choices: tuple[Any, ...] = ()
    """What a choice is among, as a config would hold it; a policy may be one of them."""
    default: Any = None
    """The base config's value; None where it has none, or several."""
    hyperparameter: bool = False
    """Whether the user's own model asks for it, so that it is no key of the config."""


class Term(Record, kw_only=True):
    """One part of what is optimised."""

    measure: str
    """`cost`, `seconds`, `skill`, or the name of a metric that Keras logs."""
    direction: Direction
    """Whether less or more of it is better."""
    weight: float = 1.0
    """Its factor in a sum of several; above 0."""


class Objective(Record, kw_only=True):
    """What is optimised: one measure of a run, or a weighted sum of several, over the seeds."""

    name: str
    """In words, such as `cost` or `cost - 5 × skill`."""
    direction: Direction
    """Whether a lower or a higher score is better; a sum of several is minimised."""
    terms: tuple[Term, ...]
    """The measures."""
    penalty: float
    """What a run without a model that passes costs beside what it trained, in plain trainings of
    the base config."""


class TrialRun(Record, kw_only=True):
    """One run of a trial, or of an arm of the final comparison."""

    seed: int
    """Base seed: that of the run's first attempt."""
    run: str | None = None
    """The run's directory, relative to the search's; None where there is none."""
    status: RunStatus
    """How the run ended."""
    reason: str | None = None
    """Why there is no result, or how the run ended where that was not `passed`."""
    attempts: int = 0
    """Attempts that it took."""
    epochs_rows: int = 0
    """Epochs times training rows, over all attempts; screening is not among it."""
    seconds: float = 0.0
    """Wall-clock time of the run."""
    cost: float | None = None
    """What it trained, in plain trainings of the base config, without any penalty; None where it
    has no result."""
    skill: float | None = None
    """Lowest skill over the outputs of the accepted attempt, or of the best."""
    metric: float | None = None
    """Value of the objective's metric after the last phase of that attempt."""
    score: float | None = None
    """What enters the objective, penalties included; None where it has no result."""
    reused: bool = False
    """Whether an earlier run with the same config, seed and data was taken instead of training."""


class Trial(Record, kw_only=True):
    """One set of values, tried on base seeds that are the same for all trials."""

    trial: int
    """Number, counted from 1; the first is the base config itself."""
    status: TrialStatus = "running"
    """How it ended: `cut` where it could no longer win, `failed` where a run had no result."""
    values: dict[str, Any] = {}
    """Value of each parameter by its path; empty for the base config as it is."""
    runs: tuple[TrialRun, ...] = ()
    """Its runs in the order of the seeds."""
    score: float | None = None
    """Mean of its runs' scores."""
    reason: str | None = None
    """Why it was cut, or why it failed."""
    started: float = 0.0
    """Seconds from the search's start to its own."""
    seconds: float = 0.0
    """Wall-clock time that it took."""


class ArmRuns(Record, kw_only=True):
    """One of the policies that are compared in the end, on fresh seeds."""

    arm: Arm
    """Which."""
    runs: tuple[TrialRun, ...] = ()
    """Its runs, one for each fresh seed, in the same order as the others'."""
    score: float | None = None
    """Mean of its runs' scores."""
    passed: int = 0
    """How many of its runs passed."""
    passed_low: float | None = None
    """Lower end of the confidence interval for the share of runs that pass, from 0 to 1."""
    passed_high: float | None = None
    """Upper end of it."""


class Difference(Record, kw_only=True):
    """The tuned values against another arm, paired by seed."""

    pairs: int
    """How many seeds have a result in both arms."""
    mean: float | None
    """Mean of tuned minus the other; None without any pair."""
    low: float
    """Lower end of the confidence interval; infinite where there are too few pairs for one."""
    high: float
    """Upper end of it."""
    better: bool
    """Whether the whole interval lies on the better side of 0, and no more runs of the tuned values
    than of the other arm have no result."""


class Comparison(Record, kw_only=True):
    """The winner against the default, on seeds that the search did not use, paired by seed."""

    seeds: tuple[int, ...]
    """The fresh seeds."""
    arms: tuple[ArmRuns, ...] = ()
    """What was compared."""
    default: Difference | None = None
    """Tuned against the default policy, in the objective's unit; a negative mean is better where
    that is minimised."""
    given: Difference | None = None
    """Tuned against the config as it is, where that has a policy of its own."""
    confidence: float = 0.95
    """Confidence of all intervals."""
    better: bool | None = None
    """Whether tuned is better than the default policy; None until it is known."""
    reason: str | None = None
    """The result in words."""


class Effect(Record, kw_only=True):
    """What one parameter did to the score of the trials, seen for itself."""

    path: str
    """The parameter's."""
    trials: int
    """How many trials with a score had a value of it."""
    share: float | None = None
    """Share of the variance of the scores' ranks that it explains, from 0 to 1, less what chance
    would; None where that cannot be told from so few trials."""
    chance: float | None = None
    """How often one of the parameters would look as important if none mattered."""
    best: Any = None
    """The value at which the fitted score is best, among those that were tried."""
    edge: Literal["lowest", "highest"] | None = None
    """Whether that is the lowest or the highest number that was tried."""


class Search(Record, kw_only=True):
    """One search for the values that make the objective best."""

    schema: int = SCHEMA
    """Version of this record's shape."""
    search: str
    """Name of the search and of its directory."""
    status: SearchStatus = "running"
    """How it ended, or `running`."""
    name: str = ""
    """The config's name."""
    tuner: str = "random"
    """KerasTuner's oracle: random, bayesian, hyperband or grid."""
    objective: Objective
    """What is optimised."""
    max_trials: int = 0
    """How many trials may be made, the base config's included."""
    seeds: tuple[int, ...] = ()
    """Base seeds that every trial is tried on, in order."""
    plain_epochs_rows: int = 0
    """Epochs times training rows of one plain training of the base config: the unit of cost; 0
    until the data is read."""
    space: tuple[Parameter, ...] = ()
    """What is searched."""
    trials: tuple[Trial, ...] = ()
    """Every trial, in order."""
    best_trial: int | None = None
    """Number of the completed trial with the best score; of equals the earliest."""
    comparison: Comparison | None = None
    """The final comparison; None where there was none yet, or nothing to compare."""
    effects: tuple[Effect, ...] = ()
    """Which parameter mattered, the most important first; empty until the search has ended."""
    recommended: Literal["tuned", "default"] | None = None
    """What to go on with; None until it is known."""
    warnings: tuple[str, ...] = ()
    """What the user should know although nothing failed."""
    conclusion: str | None = None
    """How the search ended, in words."""
    started: str | None = None
    """When it began, UTC, ISO 8601."""
    seconds: float = 0.0
    """Wall-clock time, over all sittings where it was resumed."""
    overhead_seconds: float = 0.0
    """What of it was spent on everything beside the runs."""
    versions: dict[str, str | None] = {}
    """Versions of what it was made with."""
    exit_code: int | None = None
    """The exit code of the command that ended it."""

    def trial(self, number: int | None) -> Trial | None:
        """The trial of a number; None where there is none."""
        return next((trial for trial in self.trials if trial.trial == number), None)

    def best(self) -> Trial | None:
        """The best trial; None until one is completed."""
        return self.trial(self.best_trial)


_SEARCH: msgspec.json.Decoder[Search] = decoder(Search)


def parse(content: bytes, name: str) -> Search:
    """The search that the content of a `search.json` is.

    Args:
        content: the file's.
        name: its name.

    Raises:
        RecordError: it is none.
        NewerError: it is of a newer schema.
    """
    search = decode_file(content, _SEARCH, name, schema=SCHEMA)
    if search.best_trial is not None and search.best() is None:
        raise RecordError(f"{name} is damaged: best_trial: there is no trial {search.best_trial}")
    for key in ("seconds", "overhead_seconds"):
        seconds = getattr(search, key)
        if not 0 <= seconds < math.inf:
            raise RecordError(
                f"{name} is damaged: {key}: expected a length of time, received {seconds}"
            )
    return search


def is_search(directory: Path) -> bool:
    """Whether the directory records a search."""
    return SearchPaths(directory).is_search()


def read(directory: Path) -> Search:
    """The search that a directory records; `running` only while somebody works on it.

    Args:
        directory: a search's directory.

    Raises:
        RecordError: its record is missing, or cannot be read.
    """
    path = SearchPaths(directory).record
    try:
        content = read_file(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path.name} is missing") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from error
    search = parse(content, path.name)
    if search.status != "running" or is_owned(directory):
        return search
    return replace(
        search,
        status="interrupted",
        conclusion=search.conclusion or "its process ended without a word",
    )
