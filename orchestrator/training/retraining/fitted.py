"""The accepted model in the caller's process, as `fit` leaves one: compiled, with a history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras

from orchestrator.config.schema import Config
from orchestrator.data.rows import Rows, Scaling
from orchestrator.model import build, keras_internals, saving
from orchestrator.record.records import Run
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import Paths


def load(run: Run, directory: Path, config: Config, first: Callable[[], Rows]) -> keras.Model:
    """The model of the accepted attempt.

    Args:
        run: the run, with an accepted attempt.
        directory: its directory.
        config: its config, with what `retrain` was given.
        first: gives some rows, that show how the inputs look; asked only where no file tells.

    Returns:
        The model, which takes raw inputs. Its `history` is that of `fit` over all phases.
    """
    paths = Paths(directory)
    if paths.model.exists():
        model = keras.saving.load_model(paths.model)
    else:
        rows = first()
        model = config.given.build()
        build.build_unbuilt(model, config, rows)
        # Their state is for the training; it does not fit optimizers that have not begun.
        model.load_weights(paths.model_weights, objects_to_skip=_optimizers(model))
    if not model.compiled:
        _compile(model, config)
    if not paths.model.exists():
        accepted = run.attempts[(run.accepted_attempt or 0) - 1]
        known = accepted.standardization.get("inputs", run.inputs.standardization)
        scalings = {path: Scaling.from_description(described) for path, described in known.items()}
        model = saving.deployable(model, scalings, first())
    model.history = _history(run, directory, model)
    return model


def _optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Those of a model, and of its parts where these are compiled, too."""
    held = [value for layer in keras_internals.all_layers(model) for value in vars(layer).values()]
    return [each for each in held if isinstance(each, keras.optimizers.Optimizer)]


def _compile(model: keras.Model, config: Config) -> None:
    """Compile a model with what no file can say, such as a loss of the caller's own."""
    if config.compile is not None:
        build.compile_model(model, config.compile, config)
        return
    built = config.given.build()
    if isinstance(built, keras.Model) and built.compiled:
        arguments = keras_internals.compile_arguments(built)
        optimizer = arguments["optimizer"]
        fresh = type(optimizer).from_config(optimizer.get_config())
        model.compile(**{**arguments, "optimizer": fresh})


def _history(run: Run, directory: Path, model: keras.Model) -> keras.callbacks.History:
    """What `fit` returns, over all phases of the accepted attempt."""
    found = keras.callbacks.History()
    found.set_model(model)
    told = archive.epochs(directory).get(run.accepted_attempt or 0, [])
    # An attempt that went on after its process had died has told some epochs twice.
    epochs = list({event.epoch: event for event in told}.values())
    found.epoch = [event.epoch - 1 for event in epochs]
    for event in epochs:
        for name, value in event.metrics.items():
            found.history.setdefault(name, []).append(value)
    found.set_params({"verbose": 0, "epochs": len(epochs), "steps": None})
    return found
