"""An attempt that goes on leaves no point twice in TensorBoard."""

from pathlib import Path

import pytest
import tensorflow as tf

from orchestrator.record.storage.directory import Place
from orchestrator.training.attempt.board.files import forget
from tests import events


def write(folder: Path) -> None:
    """Four epochs of ten steps, as Keras and the board write them; the first two are a phase."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.text("verdicts/00-init", "pass", step=0)
        for epoch in range(4):
            tf.summary.scalar("evaluation_loss_vs_iterations", epoch, step=10 * epoch + 10)
            tf.summary.scalar("epoch_loss", epoch, step=epoch)
            tf.summary.histogram("dense/kernel/histogram", [epoch], step=epoch)
            if epoch % 2:
                tf.summary.scalar("checks/skill", epoch, step=epoch)
                tf.summary.text(f"verdicts/0{epoch // 2 + 1}-phase", "pass", step=epoch)
    writer.close()


@pytest.mark.parametrize(
    ("place", "trained", "epochs", "checks"),
    [
        (Place(0, 0), 0, [], None),
        (Place(1, 0), 0, [], []),
        (Place(1, 1), 0, [0], []),
        (Place(1, 2), 0, [0, 1], []),  # killed before the phase's end was recorded
        (Place(2, 2), 2, [0, 1], [1]),
        (Place(2, 3, 5), 2, [0, 1, 2], [1]),
        (Place(3, 4), 4, [0, 1, 2, 3], [1, 3]),
    ],
)
def test_what_comes_again_is_taken_out(
    tmp_path: Path, place: Place, trained: int, epochs: list[int], checks: list[int] | None
) -> None:
    write(tmp_path)
    forget(tmp_path, place, trained)
    found, texts = events.scalars(tmp_path), events.texts(tmp_path)
    assert found.get("epoch_loss", []) == [(epoch, epoch) for epoch in epochs]
    assert found.get("evaluation_loss_vs_iterations", []) == [
        (10 * epoch + 10, epoch) for epoch in epochs
    ]
    assert [step for step, _ in found.get("checks/skill", [])] == (checks or [])
    phases = {f"verdicts/0{step // 2 + 1}-phase" for step in checks or []}
    assert texts.keys() == ({"verdicts/00-init"} | phases if checks is not None else set())
    assert len(events.read(tmp_path).Tags()["tensors"]) == len({*found, *texts}) + bool(epochs)


def test_a_file_whose_end_is_missing_keeps_the_rest(tmp_path: Path) -> None:
    """A worker that is killed may leave half an event."""
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    forget(tmp_path, Place(2, 3), 2)
    assert [step for step, _ in events.scalars(tmp_path)["epoch_loss"]] == [0, 1, 2]
    assert [*tmp_path.iterdir()] == [path]


def test_an_attempt_that_has_written_nothing_goes_on_as_it_is(tmp_path: Path) -> None:
    forget(tmp_path / "missing", Place(1, 3), 0)
    assert not (tmp_path / "missing").exists()
