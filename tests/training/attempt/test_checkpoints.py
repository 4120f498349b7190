"""Files of models are whole or not there."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.data.rows import Rows
from orchestrator.record.storage.directory import AttemptPaths
from orchestrator.training.attempt import checkpoints

ROWS = Rows(x=np.ones((4, 2), np.float32), y=np.ones((4, 1), np.float32), weight=None)


class Unsaved(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's whose config cannot be had."""

    def call(self, x: Any) -> Any:
        return x

    def get_config(self) -> Any:
        raise NotImplementedError("no config\nof this")


def network(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_model_is_saved_whole(tmp_path: Path) -> None:
    model = network()
    assert checkpoints.save(model, tmp_path / "a.keras") is None
    assert names(tmp_path) == ["a.keras"]
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_of_a_model_that_cannot_be_saved_the_weights_are(tmp_path: Path) -> None:
    problem = checkpoints.save(network(Unsaved()), tmp_path / ".a.keras")
    assert problem == "NotImplementedError: no config of this"
    assert names(tmp_path) == [".a.weights.h5"]


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.keras"
    path.write_text("before")
    model = network()

    def half(file: Path) -> None:
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", half)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(model, path)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.keras"]


@pytest.mark.parametrize("name", [".snapshot-001-0000001-000000000.npz", "checkpoint.keras"])
def test_what_a_kill_leaves_of_a_file_is_known(tmp_path: Path, name: str) -> None:
    with checkpoints.replacing(tmp_path / name, Path(name).suffix) as temporary:
        temporary.touch()
        assert AttemptPaths(tmp_path).unfinished() == [temporary]
    assert names(tmp_path) == [name]
    assert AttemptPaths(tmp_path).unfinished() == []


def test_a_result_that_plain_keras_cannot_load_is_saved_as_weights(tmp_path: Path) -> None:
    model = network(Unsaved())
    problem = checkpoints.save_result(model, tmp_path / ".model.keras", {}, ROWS)
    assert problem is not None
    assert names(tmp_path) == [".model.weights.h5"]


def test_a_result_is_saved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = network(), tmp_path / ".model.keras"
    save, saved = model.save, []
    monkeypatch.setattr(model, "save", lambda file: (saved.append(Path(file).parent), save(file)))
    assert checkpoints.save_result(model, path, {}, ROWS) is None
    assert (saved, names(tmp_path)) == ([tmp_path], [".model.keras"])
    np.testing.assert_array_equal(keras.models.load_model(path)(ROWS.x), model(ROWS.x))


def test_a_result_on_a_full_disk_is_no_fault_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()

    def half(file: Path) -> None:
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", half)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_result(model, tmp_path / ".model.keras", {}, ROWS)
    assert names(tmp_path) == []
