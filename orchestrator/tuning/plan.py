"""What is asked for: a new search of a config, or one that was interrupted.

Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.config import load as configs
from orchestrator.config.schema import Config
from orchestrator.config.sections.tune import Tune
from orchestrator.display import words
from orchestrator.errors import InvalidError, OrchestratorError, Problem
from orchestrator.record import search as records
from orchestrator.record.search import Parameter, Search
from orchestrator.record.storage import archive, ownership
from orchestrator.record.storage.directory import SearchPaths, read_file
from orchestrator.tuning import space
from orchestrator.tuning.trials import objective as objectives


def plan_search(config: Config, asked: Sequence[Parameter] = ()) -> Search:
    """What a config asks to search, before anything is known of its data.

    Args:
        config: the config.
        asked: hyperparameters of the user's model.

    Raises:
        InvalidError: with everything that is wrong with `tune`.
    """
    own = () if asked and not config.tune.space else space.parameters(config)
    _expect_packages(config)
    return Search(
        search="",
        name=config.name,
        tuner=config.tune.tuner,
        objective=objectives.objective(config),
        max_trials=config.tune.max_trials,
        seeds=base_seeds(config)[: config.tune.seeds],
        space=(*own, *asked),
    )


def base_seeds(config: Config) -> tuple[int, ...]:
    """Seeds of the trials, and behind them those of the comparison, all of them different."""
    found: dict[int, None] = {}
    wanted = config.tune.seeds + config.tune.fresh_seeds
    count = 0
    while len(found) < wanted:
        drawn = hashlib.sha256(f"tune/{config.seed}/{count}".encode()).digest()
        found[int.from_bytes(drawn[:4], "big")] = None
        count += 1
    return tuple(found)


def _expect_packages(config: Config) -> None:
    """Refuse what the oracle would miss, before anything is trained."""
    if config.tune.tuner != "bayesian":
        return
    missing = [
        package
        for module, package in (("scipy", "scipy"), ("sklearn", "scikit-learn"))
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        message = f"bayesian needs {' and '.join(missing)}, which {_is(missing)} not installed"
        hint = 'pip install "orchestrator[bayesian]", or choose random, hyperband or grid'
        raise InvalidError([config.problem(("tune", "tuner"), message, hint)])


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def run_config(config: Config, seed: int) -> Config:
    """The config of one run, which is not about the search any more."""
    return config.model_copy(update={"seed": seed, "tune": Tune()})


def find(
    target: Path | str, overrides: Iterable[str], *, resume: bool, runs_dir: Path
) -> tuple[Config, Path | None]:
    """What a target means: a config to search, or a search to go on with.

    Args:
        target: a config, or the directory of a search.
        overrides: `a.b=c` assignments laid over the config.
        resume: whether the config's newest interrupted search is meant.
        runs_dir: folder of all runs.

    Returns:
        The config, and the directory of the search that goes on, None for a new one.

    Raises:
        InvalidError: the config is at fault, there is no such search, or somebody works on it.
    """
    target = Path(target)
    if not records.is_search(target):
        config = configs.load(target, overrides)
        found = unfinished(runs_dir, config) if resume else None
        if resume and found is None:
            message = f"there is no interrupted search of this config in {words.relative(runs_dir)}"
            hint = "leave --resume out to begin one"
            raise InvalidError([Problem(file=str(target), message=message, hint=hint)])
        return config, found
    if any(True for _ in overrides):
        message = "a search goes on with the config that it began with"
        hint = "leave --set out, or name the config to begin a new one"
        raise InvalidError([Problem(file=str(target), message=message, hint=hint)])
    directory = target.absolute()
    _expect_idle(directory)
    return configs.load(SearchPaths(directory).resolved), directory


def unfinished(runs: Path, config: Config) -> Path | None:
    """The newest search of a config that was interrupted; None where there is none.

    Args:
        runs: the folder of all runs.
        config: the config; a search of another one, or of this one changed, is none of its.

    Raises:
        InvalidError: somebody works on a newer one.
    """
    wanted = config.dump().encode()
    for directory in sorted(runs.glob(f"tune-{config.name}-*"), reverse=True):
        try:
            if read_file(SearchPaths(directory).resolved) != wanted:
                continue
            status = records.read(directory).status
        except (OSError, OrchestratorError):
            continue
        if status == "interrupted":
            return directory
        _expect_idle(directory)
    return None


def _expect_idle(directory: Path) -> None:
    """Refuse a search that somebody works on, before any data is read."""
    if archive.is_owned(directory):
        said = ownership.refusal(SearchPaths(directory).lock, "the search")
        raise InvalidError([Problem(file=words.relative(directory), message=said)])
