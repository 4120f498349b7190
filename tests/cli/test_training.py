"""What `validate` prints."""

from orchestrator.cli.training import validated
from orchestrator.training.attempt.task import Prepared
from tests.display.test_words import finished, shown


def test_validated() -> None:
    found = Prepared(
        inputs=finished().inputs, fingerprint="", rows=8, validation_rows=2, input_shape=(3, 4),
        parameters=17, layers=("dense",), warnings=("rows are few",),
    )  # fmt: skip
    assert shown(validated("case", found), encoding="ascii") == [
        "case is valid",
        "Data: 8 training rows of 3 x 4, 2 held back for validation",
        "Model: 17 weights; activations are watched in: dense",
        "warning: rows are few",
    ]
