"""The rows of a run in files: the same to the bit as in memory, and gone with the run."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import load as configs
from orchestrator.data import arrays, cache, rows
from orchestrator.data import load as data
from orchestrator.data.files.encoding import Encoding
from orchestrator.data.load import Dataset
from orchestrator.data.rows import Columns, Rows, Scaling

X = np.random.default_rng(0).normal(3, 2, (40, 3))
Y = np.arange(40)

SOURCES = {
    "numbers": "{csv: t.csv, target: y, features: [a, b]}",
    "texts": "{csv: t.csv, target: y, features: [color, a, kind, b], sample_weight: w}",
    "only texts": "{csv: t.csv, target: {p: kind, q: y}, features: [color]}",
    "several targets": "{csv: t.csv, target: [y, b]}",
    "npz": "{npz: t.npz}",
    "npy": "{npy: x.npy, y: y.npy}",
    "other order": "{npy: f.npy, y: y.npy, sample_weight: y.npy}",
}


@pytest.fixture
def load(tmp_path: Path):
    """Load a source of the table above, not standardised yet."""
    lines = [
        f"{a!r},{'rgb'[n % 3]},{b!r},{n + 1},{n},k{n % 4}" for n, (a, b, _) in enumerate(X.tolist())
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,color,b,w,y,kind", *lines]))
    np.savez(tmp_path / "t.npz", x=X, y=Y)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X.astype(">f4")))
    np.save(tmp_path / "y.npy", Y)

    def run(source, rest=""):
        (tmp_path / "c.yaml").write_text(
            "model: {layers: [{Dense: {units: 1}}]}\ncompile: {loss: mse}\n"
            "phases: [{name: main, epochs: 1}]\n"
            f"data: {{train: {SOURCES.get(source, source)}{rest}}}\n"
        )
        return data.load_lazily(configs.load(tmp_path / "c.yaml"))

    return run


def assert_same(one: Rows, other: Rows) -> None:
    assert (len(one), one.columns, one.mapped) == (len(other), other.columns, other.mapped)
    for index in (slice(None), np.array([3, 0, 7])):
        found, expected = rows.leaves(one.batch(index)), rows.leaves(other.batch(index))
        assert [path for path, _ in found] == [path for path, _ in expected]
        for (_, array), (_, wanted) in zip(found, expected, strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("rest", ["", ", standardize: true, validation: {fraction: 0.25}"])
@pytest.mark.parametrize("source", SOURCES)
def test_rows_from_files_are_those_in_memory(load, tmp_path, monkeypatch, source, rest):
    monkeypatch.setattr(rows, "PIECE", 7)
    found = load(source, rest)
    (tmp_path / "cache").mkdir()
    stored = pickle.loads(pickle.dumps(cache.save(found, tmp_path / "cache")))
    again, expected = cache.load(stored), data.in_memory(found)
    assert (again.fingerprint, again.encoding) == (expected.fingerprint, expected.encoding)
    assert_same(again.train, expected.train)
    if rest:
        assert_same(again.validation, expected.validation)


def test_what_a_killed_process_has_left_is_written_anew(load, tmp_path):
    found = load("texts", ", validation: {fraction: 0.25}")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.npy").write_bytes(b"half")
    assert_same(cache.load(cache.save(found, tmp_path)).train, data.in_memory(found).train)


def test_texts_stay_categories(load, tmp_path):
    stored = cache.save(load("texts", ", standardize: true"), tmp_path)
    assert isinstance(cache.load(stored).train.x, Columns)
    sizes = [path.stat().st_size for path in (tmp_path / "train").iterdir()]
    assert max(sizes) < 1000


def test_a_file_of_the_users_is_not_copied(load, tmp_path):
    (tmp_path / "cache").mkdir()
    found = load("npy", ", validation: {fraction: 0.25}, standardize: true")
    again = cache.load(cache.save(found, tmp_path / "cache"))
    np.load(tmp_path / "x.npy", mmap_mode="r+")[:] = 7
    assert again.train.mapped
    assert set(again.train.pick(slice(None))[0].flat) == {7}


@pytest.mark.parametrize("view", [np.s_[5:], np.s_[::3, 1:], np.s_[:, ::-1], np.s_[:, 0]])
def test_a_part_of_a_mapped_file_is_that_part(tmp_path, view):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[view]
    found = Rows(x={"a": x, "b": X[: len(x)]}, y=X[: len(x), 0], scalings={})
    dataset = data.Dataset(
        train=found, validation=None, scalings={}, encoding=data.Encoding(), fingerprint=""
    )
    assert_same(cache.load(cache.save(dataset, tmp_path)).train, found)


def test_texts_are_read_again_as_they_were(tmp_path):
    texts = np.array(["a", "", "łódź", "x" * 5000], object)
    found = Rows(x={"t": texts, "b": np.array([b"\xff", b"", b"a\x00", b"b"], object)}, y=Y[:4])
    dataset = data.Dataset(
        train=found, validation=None, scalings={}, encoding=data.Encoding(), fingerprint=""
    )
    again = cache.load(pickle.loads(pickle.dumps(cache.save(dataset, tmp_path)))).train
    for key, array in found.x.items():
        assert again.x[key].tolist() == array.tolist()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 10_000


def test_scalings_of_parts_are_parts_of_the_scaling():
    scaling = Scaling(mean=np.arange(3, dtype="f4"), variance=np.arange(1, 4, dtype="f4"))
    np.testing.assert_array_equal(
        scaling.part(slice(1, 3)).apply(X[:, 1:]), scaling.apply(X)[:, 1:]
    )


# ------------------------------------------------------------------------------- the folder


def test_the_folder_is_gone_with_the_run_and_so_are_those_made_for_it(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), cache.folder(tmp_path / "a" / "runs") as folder:
        assert folder.name.startswith(".")
        (folder / "x.npy").write_text("")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_runs_that_holds_something_stays(tmp_path):
    with cache.folder(tmp_path / "runs"):
        (tmp_path / "runs" / "run").mkdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def _hold(parent: Path, ready) -> None:
    with cache.folder(parent):
        ready.set()
        time.sleep(600)


def test_the_folder_of_an_owner_that_was_killed_is_removed_by_the_next(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    owner = context.Process(target=_hold, args=(tmp_path, ready), daemon=True)
    owner.start()
    assert ready.wait(60)
    (held,) = tmp_path.iterdir()
    with cache.folder(tmp_path):
        assert held.exists()  # its owner lives
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(60)
    owner.close()
    with cache.folder(tmp_path):
        assert not held.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    theirs = tmp_path / ".data-of-theirs"
    theirs.mkdir()
    for name in ("file", ".lock"):
        (theirs / name).touch()
    with cache.folder(tmp_path):
        pass
    assert sorted(each.name for each in theirs.iterdir()) == [".lock", "file"]


def private(path: Path) -> np.ndarray:
    found = np.load(path, mmap_mode="c")
    found *= 2
    return found


def gone(path: Path) -> np.ndarray:
    found = np.load(path, mmap_mode="r")
    path.unlink()
    return found


@pytest.mark.parametrize(
    "read",
    [
        lambda path: np.load(path, mmap_mode="r").astype(np.float32),
        lambda path: np.load(path, mmap_mode="r").copy(),
        private,
        gone,
    ],
    ids=["converted", "copied", "changed in memory", "file gone"],
)
def test_what_its_file_does_not_hold_is_written(read, tmp_path: Path) -> None:
    """NumPy calls all of these mapped arrays."""
    np.save(tmp_path / "x.npy", X)
    x = read(tmp_path / "x.npy")
    assert isinstance(x, np.memmap)
    found = arrays.from_values(x, Y, name="f")
    assert not found.mapped
    folder = tmp_path / "folder"
    folder.mkdir()
    stored = cache.save(Dataset(train=found, validation=None, scalings={}, encoding=Encoding(),
                                fingerprint=""), folder)  # fmt: skip
    assert stored is not None
    assert cache.load(stored).train.x.tolist() == x.astype(np.float32).tolist()
