"""What an attempt trains with: its rows, and the model of the seed that screening chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.data.load import Dataset, open_source, standardized
from orchestrator.data.rows import AnyRows, leaves
from orchestrator.data.streams.feed import LiveFeed
from orchestrator.data.streams.pipeline import Feed, held_back
from orchestrator.diagnosis.causes.after.network import find_dead_initialization
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.causes.plan import read_plan, sound_rate
from orchestrator.diagnosis.examine import non_finite_variables, why_lost
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.watch.gradients import GradientWatch
from orchestrator.diagnosis.watch.signals import SignalLog
from orchestrator.errors import InvalidError
from orchestrator.model.build import build_model, obstacles, plain_optimizers
from orchestrator.model.initialization import Recorder
from orchestrator.model.layers import count_parameters
from orchestrator.model.outputs import Output, find_outputs, find_untrained
from orchestrator.model.pretrained import begins_trained, keeps_weights
from orchestrator.model.remedies import scaled_inputs, scaled_targets
from orchestrator.record.events import Doing, ModelBuilt, ScreeningProgress, SeedsScreened
from orchestrator.record.records import Finding, Settings, Standardization
from orchestrator.record.storage.directory import AttemptPaths, Place
from orchestrator.training.attempt.averages import Averages
from orchestrator.training.attempt.building import preparation, user_callbacks
from orchestrator.training.attempt.building.screening import Screening, screen
from orchestrator.training.attempt.learning_rate import Rates
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit

if TYPE_CHECKING:
    from orchestrator.training.attempt.board.board import Board


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The rows of an attempt."""

    dataset: Dataset
    """All of them, standardised as the config or a remedy says."""
    checked: AnyRows
    """The training rows that the checks look at."""


def load(task: Task) -> Loaded:
    """Read the rows, and draw those to check.

    Raises:
        InvalidError: the data is not what the run began with.
    """
    dataset = preparation.load(task.config, task.stored)
    if task.fingerprint is not None and dataset.fingerprint != task.fingerprint:
        message = "the data is not what it was when the run began"
        hint = "let a data callable return the same rows at every call"
        raise InvalidError([task.config.problem(("data",), message, hint)])
    if "inputs" in (task.settings.standardize or ""):
        dataset = standardized(dataset, _taken_as_given(task, dataset))
    return Loaded(dataset=dataset, checked=_draw_checked(task.config, dataset.train))


def _taken_as_given(task: Task, dataset: Dataset) -> list[str]:
    """The inputs that a remedy leaves as they are; of a single one it was asked before."""
    if len(leaves(dataset.train.first(1)[0])) == 1:
        return []
    left = scaled_inputs.left_out(
        build_model(task.config, task.settings, dataset.train), dataset.train
    )
    return [path for path, reason in left.items() if reason is not None]


def _draw_checked(config: Config, rows: AnyRows) -> AnyRows:
    """The rows that the checks look at: all, or the sample that the config asks for."""
    limits = config.checks.dead_neurons
    if limits is None or limits.rows == "all" or limits.rows >= len(rows):
        return rows
    chosen = np.random.default_rng(config.seed).choice(len(rows), limits.rows, replace=False)
    return rows.take(np.sort(chosen))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """The model of an attempt, with what trains it and what looks into it."""

    model: keras.Model
    """Compiled."""
    settings: Settings
    """The task's, with the seed that screening chose."""
    findings: tuple[Finding, ...]
    """What screening found out."""
    screened: int
    """Candidate seeds that it looked at."""
    begins_trained: bool
    """Whether it had weights of an earlier training before this one began."""
    probe: Probe
    """Measures activations; it traces the model once."""
    outputs: tuple[Output, ...]
    """The outputs, with what each is judged as."""
    class_weight: Mapping[int, float] | None
    """Weight of every class in training; None without."""
    rates: Rates
    """Sets the optimizer's rate."""
    pipeline: Feed | LiveFeed
    """Batches for training."""
    held: Any
    """Batches of the validation rows, a `tf.data.Dataset`; None without such rows."""
    callbacks: tuple[keras.callbacks.Callback, ...]
    """The user's, and TensorBoard's."""
    signals: SignalLog
    """Keeps what the gradients tell of the units."""
    averages: Averages
    """Keeps the weights that moving averages replace at a phase's end."""
    planned_rate: float | None = None
    """The highest rate of its longest phase, as the config has it; None where that is not known."""


def build(task: Task, rows: Loaded, emit: Emit) -> Built:
    """Build the model of the first candidate seed whose network is not dead before training.

    Args:
        task: the attempt.
        rows: its rows.
        emit: is told of the screening and of the model.
    """
    config, dataset = task.config, rows.dataset
    screening, probe = _screen(task, rows, emit)
    model = screening.model
    settings = replace(task.settings, seed=screening.seed)
    found = find_outputs(model, config, dataset.train)
    variance = config.checks.prediction_variance
    kind = None if variance is None else variance.kind
    class_weight = preparation.class_weight(config, found)
    built = Built(
        model=model,
        settings=settings,
        findings=() if screening.finding is None else (screening.finding,),
        screened=len(screening.candidates),
        begins_trained=begins_trained(model, config),
        probe=probe,
        outputs=tuple(output.read_as(kind, dataset.train.y) for output in found),
        class_weight=class_weight,
        rates=Rates(
            plain_optimizers(model),
            settings.learning_rate_cap,
            settings.learning_rate_factor,
            anneal=settings.anneal,
            stretch=settings.schedule_stretch,
        ),
        averages=Averages(model),
        callbacks=_given_callbacks(task),
        signals=SignalLog(GradientWatch(model)),
        pipeline=_feed(task, dataset, settings, class_weight, model.steps_per_execution, emit),
        held=(
            None if dataset.validation is None else held_back(dataset.validation, config.batch_size)
        ),
    )
    built = dataclasses.replace(built, planned_rate=_planned_rate(task, dataset, built))
    hidden = probe.hidden_relu(dataset.train)
    with built.rates.plain():  # a capped schedule cannot be copied with its optimizer
        hindered = obstacles(model, config, settings, dataset.train, hidden, found)
    emit(
        ModelBuilt(
            attempt=task.attempt,
            parameters=count_parameters(model),
            obstacles={**hindered, **_rewind_obstacle(built)},
            standardization=_describe_scales(settings, dataset, built),
            sound_rate=sound_rate(model, built.outputs),
            planned_rate=built.planned_rate,
        )
    )
    return built


def _planned_rate(task: Task, dataset: Dataset, built: Built) -> float | None:
    """The highest rate of the longest phase, without what a remedy makes of it."""
    subject = Subject(
        model=built.model,
        outputs=built.outputs,
        rows=dataset.train,
        config=task.config,
        steps_per_epoch=built.pipeline.steps,
    )
    with built.rates.plain():
        plan = read_plan(subject)
    if plan is None:
        return None
    longest = max(plan.stretches, key=lambda each: each.steps)
    return float(longest.written.max())


def _describe_scales(settings: Settings, dataset: Dataset, built: Built) -> Standardization:
    """What a remedy has standardised."""
    parts, found = settings.standardize or "", Standardization()
    if "inputs" in parts:
        found["inputs"] = {path: each.describe() for path, each in dataset.scalings.items()}
    if "targets" in parts:
        found["targets"] = scaled_targets.describe(built.model, built.outputs)
    return found


def _rewind_obstacle(built: Built) -> dict[str, str]:
    """Why no attempt can go on from a state of this one; what its callbacks hold shows later."""
    if isinstance(built.pipeline, LiveFeed):
        return {"rewind": "the rows are read as they come, and cannot be read from the middle"}
    return {}


def _feed(
    task: Task,
    dataset: Dataset,
    settings: Settings,
    class_weight: dict[int, float] | None,
    steps_per_execution: int,
    emit: Emit,
) -> Feed | LiveFeed:
    """What training is fed with."""
    if dataset.live is None:
        return Feed(
            dataset.train,
            batch_size=task.config.batch_size,
            seed=settings.seed,
            class_weight=class_weight,
            steps_per_execution=steps_per_execution,
        )
    # What it draws when it is opened hangs on the attempt's seed, whether screened or not.
    keras.utils.set_random_seed(settings.seed)
    source = open_source(task.config, "train")
    if source is None:
        message = "expected batches, as when the run began, received arrays"
        raise InvalidError([task.config.problem(("data", "train"), message)])
    return LiveFeed(
        source,
        dataset.live,
        dataset.train,
        class_weight,
        emit,
        settings.seed,
        steps_per_execution,
    )


def _screen(task: Task, rows: Loaded, emit: Emit) -> tuple[Screening, Probe]:
    """The chosen seed with its model, and a probe of that."""
    config, train_rows = task.config, rows.dataset.train
    probes: dict[int, Probe] = {}

    def build(seed: int, recorder: Recorder) -> keras.Model:
        settings = replace(task.settings, seed=seed)
        return build_model(config, settings, train_rows, recorder)

    def make(model: keras.Model) -> Probe:
        untrained = find_untrained(model, config, train_rows)
        return Probe(model, untrained, lambda detail: emit(Doing(what="checking", detail=detail)))

    def judge(model: keras.Model) -> Callable[[], str | None]:
        # Traced once for all looks at it.
        probe = make(model)
        probes.clear()
        probes[id(model)] = probe
        return lambda: why_lost(
            probe,
            rows.checked,
            config.checks,
            non_finite=non_finite_variables([("weight", model.weights)]),
            training_batch_size=config.batch_size,
        )

    seeds = task.seeds or (task.settings.seed,)
    if keeps_weights(config):
        seeds = seeds[:1]
    x = train_rows.first(2)[0]
    found = screen(
        seeds,
        build,
        judge,
        lambda model: any(find_dead_initialization(model, x)),
        lambda done: emit(ScreeningProgress(seeds=done, limit=len(seeds))),
    )
    if found.candidates:
        emit(SeedsScreened(attempt=task.attempt, seed=found.seed, candidates=found.candidates))
    return found, probes.get(id(found.model)) or make(found.model)


def _given_callbacks(task: Task) -> tuple[keras.callbacks.Callback, ...]:
    found = user_callbacks.make(task.config)
    if task.config.tensorboard:
        folder = str(AttemptPaths(task.directory).board(task.remedy))
        found.append(keras.callbacks.TensorBoard(folder, histogram_freq=1))
    return tuple(found)


def open_boards(
    task: Task, rows: Loaded, built: Built, place: Place, trained: int
) -> tuple[Board, ...]:
    """What writes for TensorBoard beside Keras's own callback; nothing where it is not asked for.

    Args:
        task: the attempt.
        rows: its rows.
        built: its model.
        place: where its training begins.
        trained: epochs of the phases that are finished there.
    """
    if not task.config.tensorboard:
        return ()
    # TensorBoard takes a while to import.
    from orchestrator.training.attempt.board.board import Board  # noqa: PLC0415

    board = Board(
        AttemptPaths(task.directory).board(task.remedy),
        number=task.attempt,
        remedy=task.remedy,
        settings=built.settings,
        rows=rows.checked,
        probe=built.probe,
        model=built.model,
        signals=built.signals.latest,
    )
    board.begin(place, trained)
    return (board,)
