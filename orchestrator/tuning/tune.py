"""`tune`: the command as a function, for a config, or for a model and rows in memory."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.backend import check_backend
from orchestrator.config.given import code_of, send
from orchestrator.config.schema import Config
from orchestrator.display.live.view import stderr
from orchestrator.display.search.view import SearchView
from orchestrator.errors import InvalidError, NotSentError, Problem
from orchestrator.record.encoding import jsonable
from orchestrator.training.interrupts import Interrupts
from orchestrator.tuning import plan
from orchestrator.tuning.launch import launch


def tune(
    config: Any,
    x: Any = None,
    y: Any = None,
    *,
    overrides: Iterable[str] = (),
    runs_dir: Path | str = "runs",
    quiet: bool = False,
    jobs: int = 1,
    fresh: bool = False,
    resume: bool = False,
    phases: Sequence[Mapping[str, Any]] | None = None,
    tune: Mapping[str, Any] | None = None,
    validation: Any = None,
    sample_weight: Any = None,
    standardize: bool = False,
    **sections: Any,
) -> dict[str, Any]:
    """Search the restart policy, or any key of a config, for the best with KerasTuner.

    Args:
        config: the YAML file, as `orchestrate tune` takes it, or the directory of a search that was
            interrupted; or a `keras_tuner.HyperModel`, a function `build(hp)`, or one that returns
            a model as `retrain` takes it, with the rows as x and y. The hyperparameters of a model
            are searched together with what `tune` names.
        x: inputs, as `retrain` takes them; arrays only.
        y: targets.
        overrides: `a.b=c` assignments laid over a config.
        runs_dir: folder of all runs.
        quiet: no progress on stderr, only warnings.
        jobs: how many runs are trained at a time.
        fresh: train every run, also where the same one is recorded already.
        resume: go on with the newest search of the config that was interrupted.
        phases: the phases, for a model; as in a config.
        tune: what is searched and how, for a model; as in a config.
        validation: as `retrain` takes it.
        sample_weight: weight of each row in the loss, shape (rows,).
        standardize: shift and scale the inputs.
        **sections: more keys of a config, for a model, such as `compile`, `restart` or `seed`.

    Returns:
        The search's record, the same as `search.json`.

    Raises:
        InvalidError: the config, an argument or the data is at fault; nothing was written.
        KeyboardInterrupt: Ctrl-C; what was recorded until then stays, and `resume` goes on.
        SystemExit: SIGTERM or SIGHUP; likewise.
    """
    check_backend()
    runs = Path(runs_dir)
    if isinstance(config, str | Path):
        found, resumed = plan.find(config, overrides, resume=resume, runs_dir=runs)
        return _searched(found, resumed, runs, quiet=quiet, jobs=jobs, fresh=fresh)
    # NumPy and what it takes to send arrays are needed for these alone.
    from orchestrator.training import retrain  # noqa: PLC0415
    from orchestrator.training.retraining import pickling  # noqa: PLC0415

    try:
        described, given = retrain.describe(
            config,
            x,
            y,
            validation=validation,
            sample_weight=sample_weight,
            standardize=standardize,
            sections={**sections, "phases": phases, "tune": tune},
        )
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            sent = send(given, Path(folder), pickling.dumps)
            known = described.with_given(dataclasses.replace(sent, code=code_of(given)))
            resumed = plan.unfinished(runs, known) if resume else None
            return _searched(known, resumed, runs, quiet=quiet, jobs=jobs, fresh=fresh)
    except NotSentError as error:
        message = f"this cannot be sent to the processes that train: {error}"
        hint = "give arrays, and a function or HyperModel that holds no open file, lock or dataset"
        raise InvalidError([Problem(file="tune(…)", message=message, hint=hint)]) from error
    except InvalidError as error:
        raise InvalidError(map(_here, error.problems)) from error


def _here(problem: Problem) -> Problem:
    """A problem of what was given, at the function that it was given to."""
    return dataclasses.replace(problem, file=problem.file.replace("retrain(…)", "tune(…)"))


def _searched(
    config: Config, resumed: Path | None, runs: Path, *, quiet: bool, jobs: int, fresh: bool
) -> dict[str, Any]:
    view = SearchView(stderr(), detail="warnings" if quiet else "all")
    with Interrupts() as interrupts, view:
        try:
            found, _ = launch(
                config,
                runs_dir=runs,
                announcer=view,
                interrupts=interrupts,
                jobs=jobs,
                fresh=fresh,
                resumed=resumed,
            )
        finally:
            if interrupts.received == signal.SIGINT:
                raise KeyboardInterrupt
            if interrupts.received is not None:
                raise SystemExit(128 + interrupts.received)
    record: dict[str, Any] = jsonable(found)
    return record
