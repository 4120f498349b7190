"""Whole searches with real trainings, in this process; the one that is killed has its own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.config import load as configs
from orchestrator.config.given import code_of, send
from orchestrator.config.schema import Config
from orchestrator.data import split
from orchestrator.errors import InvalidError, StoppedError, UserCodeError
from orchestrator.record import search as records
from orchestrator.record.search import Search
from orchestrator.record.storage import archive
from orchestrator.training import retrain
from orchestrator.training.retraining import pickling
from orchestrator.tuning import plan
from orchestrator.tuning.journal import SearchEvent, TrialEnded, TrialStarted
from orchestrator.tuning.trials.recorded import Recorded
from tests.conftest import LINE
from tests.tuning.small import TUNE, Watcher, outcomes, search, write

pytestmark = pytest.mark.usefixtures("_module_in_this_process")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Search, Path]:
    """A search that is through: its config, its record and its directory."""
    folder = tmp_path_factory.mktemp("project")
    config = write(folder)
    found, directory = search(config, folder / "runs")
    return config, found, directory


def test_a_trial_is_whole_runs_on_the_same_seeds(project: Any) -> None:
    config, found, directory = project
    assert (found.status, found.exit_code, len(found.trials)) == ("finished", 0, 3)
    assert found.trials[0].values == {"batch_size": 32}
    assert {trial.values["batch_size"] for trial in found.trials} == {16, 32, 64}
    assert found.plain_epochs_rows == 20 * 64
    for trial in found.trials:
        assert [run.seed for run in trial.runs] == list(found.seeds)
        for run in trial.runs:
            recorded = archive.read(directory / str(run.run))
            assert recorded.attempts[0].settings.seed == run.seed
            assert recorded.status == run.status
            assert run.cost == len(archive.epochs(directory / str(run.run)))
    assert found.best() is not None
    assert records.read(directory) == found


def test_a_search_has_its_files(project: Any) -> None:
    config, found, directory = project
    assert (directory / "config.yaml").read_bytes() == config.source
    assert len(list((directory / "runs").iterdir())) == 6
    assert len(list((directory / "oracle").glob("trial_*/trial.json"))) == 3
    assert configs.load(directory / "resolved.yaml").model_dump() == config.model_dump()
    run = next((directory / "runs").iterdir())
    assert configs.load(run / "resolved.yaml").tune == type(config.tune)()


def test_what_is_recorded_already_is_not_trained_again(project: Any) -> None:
    config, first, directory = project
    again, second = search(config, directory.parent)
    assert outcomes(again) == outcomes(first)
    for trial in again.trials:
        for run in trial.runs:
            assert run.reused
            assert (second / str(run.run)).resolve().parent == directory / "runs"
    assert list((second / "runs").iterdir()) == []
    shutil.rmtree(second)


@pytest.mark.parametrize("moment", [2, 5, 7])
def test_a_search_goes_on_from_any_event(project: Any, tmp_path: Path, moment: int) -> None:
    config, whole, directory = project
    copied = tmp_path / "runs" / directory.name
    shutil.copytree(directory, copied)
    lines = (copied / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "journal.jsonl").write_bytes(b"".join(lines[:moment]) + lines[moment][:20])
    (copied / "search.json").write_bytes((directory / "search.json").read_bytes())
    made = {path.name for path in (copied / "runs").iterdir()}
    watcher = Watcher()
    again, _ = search(config, tmp_path / "runs", watcher, resumed=copied)
    assert outcomes(again) == outcomes(whole)
    assert {path.name for path in (copied / "runs").iterdir()} == made
    shown = [event for event in watcher.events if isinstance(event, TrialEnded)]
    ended = sum(b'"event":"trial_ended"' in line for line in lines[:moment])
    assert len(shown) == 3 - ended


def test_a_run_that_was_half_done_is_made_again(project: Any, tmp_path: Path) -> None:
    config, whole, directory = project
    copied = tmp_path / "runs" / directory.name
    shutil.copytree(directory, copied)
    lines = (copied / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "journal.jsonl").write_bytes(b"".join(lines[:-2]))
    last = whole.trials[-1].runs[-1].run
    journal = copied / str(last) / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:4]))
    (copied / str(last) / "run.json").unlink()
    lines = (copied / "journal.jsonl").read_bytes().splitlines(keepends=True)
    keep = max(i for i, line in enumerate(lines) if b"trial_run_ended" in line)
    (copied / "journal.jsonl").write_bytes(b"".join(lines[:keep]))
    again, _ = search(config, tmp_path / "runs", resumed=copied)
    assert outcomes(again) == outcomes(whole)
    assert again.trials[-1].runs[-1].run != last
    assert not (copied / str(last)).exists()


def test_a_search_has_ended_when_its_files_are_there(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole, directory = project
    copied = tmp_path / "runs" / directory.name
    shutil.copytree(directory, copied)
    lines = (copied / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    (copied / "tuned.yaml").unlink()

    def kill(*arguments: object, **options: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.tuning.result.tuned.write_files", kill)
        with pytest.raises(SystemExit):
            search(config, tmp_path / "runs", resumed=copied)
    assert plan.unfinished(tmp_path / "runs", config) == copied
    again, _ = search(config, tmp_path / "runs", resumed=copied)
    assert outcomes(again) == outcomes(whole)
    assert (copied / "tuned.yaml").exists()


def test_a_search_that_goes_on_with_other_versions_says_so(project: Any, tmp_path: Path) -> None:
    config, whole, directory = project
    copied = tmp_path / "runs" / directory.name
    shutil.copytree(directory, copied)
    path = copied / "environment.json"
    path.write_text(path.read_text().replace('"keras": "', '"keras": "0.'))
    again, _ = search(config, tmp_path / "runs", resumed=copied)
    assert whole.warnings == ()
    (warning,) = again.warnings
    assert warning.startswith("the search began with keras 0.")


def test_a_search_does_not_go_on_with_other_code_than_it_began_with(tmp_path: Path) -> None:
    def stop(event: SearchEvent) -> None:
        if isinstance(event, TrialStarted):
            raise StoppedError("stopped by SIGINT")

    factory = {"factory": {"callable": "rows:build"}}
    config = write(tmp_path, model=factory)
    _, directory = search(config, tmp_path / "runs", Watcher(stop))
    before = (directory / "journal.jsonl").read_bytes()
    write(tmp_path, "# other\n", model=factory)
    with pytest.raises(InvalidError, match=r"since the search began, rows\.py has changed"):
        search(config, tmp_path / "runs", resumed=directory)
    assert (directory / "journal.jsonl").read_bytes() == before


def test_a_search_does_not_go_on_with_another_function_than_it_was_given(tmp_path: Path) -> None:
    def stop(event: SearchEvent) -> None:
        if isinstance(event, TrialStarted):
            raise StoppedError("stopped by SIGINT")

    def given(width: int) -> Config:
        def build(hp: Any) -> keras.Model:
            layers = [keras.layers.Dense(hp.Int("units", 1, width)), keras.layers.Dense(1)]
            return keras.Sequential([keras.Input((2,)), *layers])

        sections: dict[str, Any] = {
            "compile": {**LINE["compile"], "run_eagerly": True},
            "phases": [{"name": "main", "epochs": 1}],
            "tune": {"max_trials": 1, "seeds": 1, "fresh_seeds": 0},
        }
        described, found = retrain.describe(
            build, np.ones((64, 2)), np.arange(64.0),
            validation=None, sample_weight=None, standardize=False, sections=sections,
        )  # fmt: skip
        sent = send(found, tmp_path, pickling.dumps)
        return described.with_given(dataclasses.replace(sent, code=code_of(found)))

    runs = tmp_path / "runs"
    _, directory = search(given(4), runs, Watcher(stop))
    assert plan.unfinished(runs, given(5)) == directory
    with pytest.raises(
        InvalidError, match=r"since the search began, the given build .*has changed"
    ):
        search(given(5), runs, resumed=directory)
    again, _ = search(given(4), runs, resumed=directory)
    assert again.status == "finished"


def test_of_one_trial_the_config_as_it_is_is_all_also_where_the_space_is_without_it(
    tmp_path: Path,
) -> None:
    tune = {"max_trials": 1, "seeds": 1, "space": {"batch_size": {"choice": [16, 64]}}}
    config = write(tmp_path, tune=tune)
    assert config.batch_size == 32
    found, _ = search(config, tmp_path / "runs")
    assert [trial.values for trial in found.trials] == [{}]
    assert found.status == "finished"


def test_an_interrupt_is_recorded_and_resumed(project: Any, tmp_path: Path) -> None:
    config, whole, before = project

    def stop(event: SearchEvent) -> None:
        if isinstance(event, TrialStarted) and event.trial == 2:
            busy = max(runs.glob("tune-*"), key=lambda path: path.stat().st_mtime_ns)
            for target, resume in ((config.base + "/line.yaml", True), (busy, False)):
                with pytest.raises(InvalidError, match="the search is in progress: process"):
                    plan.find(target, (), resume=resume, runs_dir=runs)
            raise StoppedError("stopped by SIGINT")

    runs = before.parent
    found, directory = search(config, runs, Watcher(stop))
    assert (found.status, found.exit_code) == ("interrupted", 75)
    assert "--resume" in str(found.conclusion)
    assert found.effects == ()
    assert plan.find(config.base + "/line.yaml", (), resume=True, runs_dir=runs)[1] == directory
    again, same = search(config, runs, resumed=directory)
    assert same == directory
    assert outcomes(again) == outcomes(whole)
    with pytest.raises(InvalidError, match="there is no interrupted search of this config"):
        plan.find(config.base + "/line.yaml", (), resume=True, runs_dir=runs)


def test_a_trial_that_crashes_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        model={"factory": {"callable": "rows:build"}},
        tune={
            **TUNE,
            "tuner": "grid",
            "seeds": 1,
            "space": {"model.factory.kwargs.width": {"choice": [5, 4]}},
        },
    )
    found, directory = search(config, tmp_path / "runs")
    assert [trial.status for trial in found.trials] == ["completed", "failed", "completed"]
    assert "no such width" in str(found.trials[1].reason)
    assert found.exit_code == 0
    assert [trial.values for trial in found.trials] == [
        {},  # the config has no width of its own
        {"model.factory.kwargs.width": 5},
        {"model.factory.kwargs.width": 4},
    ]
    # A search that goes on leaves what it has recorded, the run with the error among it.
    made = sorted(each.name for each in (directory / "runs").iterdir())
    assert len(made) == 3
    Recorded(directory / "runs", ()).remove_unfinished()
    assert sorted(each.name for each in (directory / "runs").iterdir()) == made


def test_hyperparameters_of_a_model_are_searched_under_their_own_names(tmp_path: Path) -> None:
    code = """
def tuned(hp):
    return build(hp.Int("width", 6, 8))
"""
    config = write(
        tmp_path, code,
        model={"factory": {"callable": "rows:tuned"}},
        tune={"max_trials": 2, "seeds": 1, "fresh_seeds": 0, "objective": "skill"},
    )  # fmt: skip
    found, directory = search(config, tmp_path / "runs")
    assert [parameter.path for parameter in found.space] == ["width"]
    base, other = found.trials
    assert base.values == {"width": 6}
    assert other.values["width"] in (7, 8)
    resolved = configs.load(directory / str(other.runs[0].run) / "resolved.yaml")
    assert resolved.model.factory.hyperparameters == other.values
    assert base.score == base.runs[0].skill


def test_an_error_that_every_trial_meets_ends_the_search_before_it(tmp_path: Path) -> None:
    factory = {"factory": {"callable": "rows:build", "kwargs": {"width": 5}}}
    with pytest.raises(UserCodeError, match="no such width"):
        search(write(tmp_path, model=factory), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_each_run_counts_the_rows_of_its_own_split(tmp_path: Path) -> None:
    groups = np.sqrt(np.arange(64)).astype(int)  # of all sizes
    lines = [f"{index}.5,{group},{index}" for index, group in enumerate(groups)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,group,y", *lines]))
    config = write(
        tmp_path,
        data={
            "train": {"csv": "rows.csv", "target": "y"},
            "validation": {"fraction": 0.2, "group": "group"},
        },
        phases=[{"name": "main", "epochs": 1}],
        restart={"max_attempts": 1},
        tune={**TUNE, "max_trials": 1, "seeds": 2},
    )
    found, _ = search(config, tmp_path / "runs")
    rows = [len(split.by_group(groups, 0.2, seed)[0]) for seed in found.seeds]
    assert len({*rows}) > 1
    assert [run.epochs_rows for run in found.trials[0].runs] == rows


@pytest.mark.parametrize("fresh_seeds", [0, 20])
def test_a_text_that_a_split_holds_back_is_said_before_anything_is_trained(
    tmp_path: Path, fresh_seeds: int
) -> None:
    """The rows of the first seed are in order, those of another, perhaps a fresh one, are not."""
    rows = [f"{index}.5,{'rare' if index == 7 else 'usual'},{index}" for index in range(64)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,kind,y", *rows]))
    config = write(
        tmp_path,
        data={"train": {"csv": "rows.csv", "target": "y"}, "validation": {"fraction": 0.2}},
        tune={**TUNE, "seeds": 1 if fresh_seeds else 20, "fresh_seeds": fresh_seeds},
    )
    held = [seed for seed in plan.base_seeds(config) if 7 in split.at_random(64, 0.2, seed)[1]]
    assert held and held[0] != plan.base_seeds(config)[0]
    with pytest.raises(
        InvalidError, match=f"'rare' is not .* the split of seed {held[0]} has held"
    ):
        search(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_values_that_keras_does_not_take_are_said_at_their_path(tmp_path: Path) -> None:
    space = {
        "compile.optimizer.Adam.learning_rte": {"float": [0.1, 0.2]},
        "model.layers.0.Dense.units": {"int": [0, 3]},
        "batch_size": {"int": [1, 8]},
    }
    with pytest.raises(InvalidError, match=".") as caught:
        search(write(tmp_path, tune={**TUNE, "space": space}), tmp_path / "runs")
    rate, units = caught.value.problems
    assert rate.key == "tune.space.compile.optimizer.Adam.learning_rte"
    assert "learning_rate" in str(rate.hint)
    assert units.key == "tune.space.model.layers.0.Dense.units"
    assert units.message.startswith("0: ")
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_nobody_logs_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    objective = {"metric": "val_loss", "direction": "min"}
    with pytest.raises(InvalidError, match="Keras logs no 'val_loss'; add data.validation"):
        search(write(tmp_path, tune={**TUNE, "objective": objective}), tmp_path / "runs")


def test_runs_without_a_model_are_penalised_and_end_nothing(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        checks={"metric": {"name": "loss", "max": 1e-9}},
        restart={"max_attempts": 1},
        tune={**TUNE, "max_trials": 2, "seeds": 1, "space": {"batch_size": {"int": [60, 64]}}},
    )
    found, _ = search(config, tmp_path / "runs")
    assert [trial.score for trial in found.trials] == [2.0] * 2
    assert [trial.runs[0].status for trial in found.trials] == ["exhausted"] * 2
    assert found.exit_code == 3
    assert found.best_trial == 1


def test_bayesian_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, tune={**TUNE, "tuner": "bayesian"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidError, match="bayesian needs scipy and scikit-learn"):
        plan.plan_search(config)


def test_fresh_seeds_are_none_of_the_search(tmp_path: Path) -> None:
    config = write(tmp_path, tune={"seeds": 20, "fresh_seeds": 30})
    seeds = plan.base_seeds(config)
    assert len(set(seeds)) == 50
    assert plan.plan_search(config).seeds == seeds[:20]
    other = config.model_copy(update={"seed": 1})
    assert not set(seeds) & set(plan.base_seeds(other))
