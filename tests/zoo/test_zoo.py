"""Healthy models of every kind are found healthy, and their broken twins are not.

Here as many as are quick, in one process; `tests/benchmarks/zoo.py` takes all of them through
whole runs, and each of their twins.
"""

from pathlib import Path

import pytest

from orchestrator.diagnosis.causes.before.find import find_before
from tests import zoo
from tests.diagnosis.causes.before.outputs.looking import subject
from tests.zoo import FAILS, RUN_FAILS, break_

SPECIMENS = {specimen.name: specimen for specimen in zoo.ALL}
QUICK = (
    "focal_rare", "hinge", "wrapped_logits", "sample_weights", "glitches", "weak_signal",
    "missing_targets", "two_outputs", "upper_quantile", "survival", "triplet_margin",
    "cosine_similarity", "masked_positions", "autoencoder", "vae",
)  # fmt: skip
"""Those that are quick to train, of each kind one."""
SWEPT = (
    "dice", "ordinal", "softmax_as_logits", "multi_label", "zero_inflated_mae", "tweedie",
    "far_from_zero", "correlation_loss", "gaussian_nll", "three_quantiles", "large_counts",
    "contrastive", "in_batch_contrastive", "simclr", "add_loss",
)  # fmt: skip
"""More of each kind."""
RUNS = ("class_weight", "vae")
"""Those that go through a whole run: what is weighed there, and what is told of no loss."""
pytestmark = pytest.mark.usefixtures("_in_this_process")


def test_there_are_enough_of_them() -> None:
    assert len({*QUICK, *SWEPT}) >= 30
    assert len(SPECIMENS) == len(zoo.ALL)


@pytest.mark.filterwarnings("ignore:.*received `from_logits=True`")
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.sweep) for name in SWEPT)]
)
def test_it_is_found_healthy_and_its_twin_is_not(name: str) -> None:
    specimen = SPECIMENS[name]
    fresh = specimen.fresh()
    x, y, weight = specimen.rows(0)
    plan = [{"name": "main", "epochs": specimen.epochs}]
    assert not find_before(subject(fresh, x, y, weight, phases=plan))

    model = specimen.fit(fresh)
    assert specimen.worth(model) >= specimen.least  # or else the test is at fault
    health = specimen.diagnose(model)
    assert health.failure is None, health.summary()
    assert health.verdicts["learned"].verdict in ("pass", "not_applicable"), health.summary()
    assert not health.findings

    twin = specimen.twins[0]
    break_(model, twin)
    found = specimen.diagnose(model).failure
    assert found is not None
    assert found.check == FAILS[twin]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_passes_at_its_first_attempt(name: str, memory_path: Path) -> None:
    specimen = SPECIMENS[name]
    model, record = specimen.retrain(runs_dir=memory_path)
    assert (record["status"], len(record["attempts"])) == ("passed", 1)
    assert specimen.worth(model) >= specimen.least


def test_a_run_of_a_broken_twin_does_not_pass(memory_path: Path) -> None:
    model, record = SPECIMENS["vae"].retrain("constant", runs_dir=memory_path)
    assert model is None
    assert record["attempts"][0]["failure"]["check"] == RUN_FAILS["constant"]
