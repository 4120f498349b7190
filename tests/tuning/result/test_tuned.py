from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config import load as configs
from orchestrator.record.search import Comparison, Effect
from orchestrator.record.storage.directory import SearchPaths
from orchestrator.tuning import space
from orchestrator.tuning.result.tuned import comments, headline, tuned_text, write_files
from tests import searches

ROOT = Path(__file__).parents[3]
COMMAND = "orchestrate tune configs/abs.yaml"


@pytest.mark.parametrize("name", ["abs", "model", "classification", "factory", "columns"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"batch_size": 16, "restart.screen_seeds": 8},
        {"restart.policy": ["leaky_relu", {"remedy": "new_seed", "times": 2}]},
        {"restart.policy.new_seed.times": 4, "restart.max_attempts": 3},
        {"compile.optimizer.Adam.learning_rate": 0.0125},
        {"restart.policy": None},
    ],
    ids=lambda values: "+".join(values),
)
def test_the_text_loads_as_the_config_with_the_values_from_anywhere(
    name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    config = configs.load(path, ["seed=3"])
    tuned = space.lay(config, values)
    text = tuned_text(config, tuned)
    (tmp_path / "tuned.yaml").write_text(text)
    assert configs.load(tmp_path / "tuned.yaml").model_dump() == tuned.model_dump()
    assert tuned.seed == 3
    assert text.startswith(path.read_text().splitlines()[0])  # the user's own comments


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    path = ROOT / "configs" / "model.yaml"
    config = configs.load(path)
    values = {"restart.policy.0.factor": 0.03, "compile.optimizer.Adam.learning_rate": 0.5}
    text = tuned_text(config, space.lay(config, values))
    before, after = path.read_text().splitlines(), text.splitlines()
    assert [line for line in after if line not in before] == [
        f"base: {ROOT / 'configs'}",
        "  optimizer: {Adam: {learning_rate: 0.5}}",
        "    - {remedy: lower_learning_rate, factor: 0.03, times: 2}",
    ]
    assert len(before) + 1 == len(after)
    bare = configs.load(ROOT / "configs" / "classification.yaml")
    text = tuned_text(bare, space.lay(bare, {"restart.screen_seeds": 8}))
    assert text.endswith("\nrestart: {screen_seeds: 8}\n")


@pytest.mark.parametrize(
    ("comparison", "best", "line"),
    [
        (searches.comparison(), 8, "Better than the default policy on 10 fresh seeds."),
        (
            searches.comparison(better=False),
            8,
            "NOT shown to be better than the default policy, which is recommended.",
        ),
        (None, 8, "Not compared on fresh seeds: how good this is on other seeds is not known."),
        (None, 1, "The config as it is: no trial of the search was better."),
    ],
)
def test_the_first_line_is_the_result(comparison: Comparison | None, best: int, line: str) -> None:
    search = searches.search(comparison=comparison, best_trial=best)
    assert headline(search) == line


def test_the_comments_say_what_was_found_and_how_sure_it_is() -> None:
    effects = (Effect(path=searches.FACTOR.path, trials=11, share=0.6, chance=0.01, best=0.01),)
    search = searches.search(
        comparison=searches.comparison(reason=" ".join(["It is better."] * 20)), effects=effects
    )
    best = search.best()
    assert best is not None
    text = comments(search, best, command=COMMAND, path="runs/x/tuned.yaml")
    lines = text.splitlines()
    assert lines[0] == "# Better than the default policy on 10 fresh seeds."
    assert all(line.startswith("#") and len(line) <= 100 for line in lines)
    assert "#   restart.policy.0.factor: 0.1 → 0.01   (of 0.01 to 1, logarithmic)" in lines
    assert "# The score depends on factor; of the others 11 trials do not tell." in lines
    assert f"# Found by: {COMMAND}" in lines
    assert lines[-1] == "# Run it:   orchestrate runs/x/tuned.yaml"


def test_the_files_are_written_where_a_winner_is(tmp_path: Path) -> None:
    config = configs.load(ROOT / "configs" / "abs.yaml")
    search = searches.search()
    write_files(config, config, search, tmp_path, command=COMMAND)
    paths = SearchPaths(tmp_path)
    assert paths.tuned.read_text().startswith("# Not compared on fresh seeds")
    assert configs.load(paths.tuned).name == "abs"
    assert paths.picture.read_text().startswith("<svg")
    paths.tuned.unlink()
    write_files(config, config, replace(search, best_trial=None), tmp_path, command=COMMAND)
    assert not paths.tuned.exists()
