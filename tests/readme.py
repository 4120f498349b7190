"""The commands of the README, for the tests and for `.ci/run`.

`python tests/readme.py run` prints the block that installs the project and runs the main job,
`python tests/readme.py test` the one that installs what the tests need and runs them.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

INSTALL = ("run", "test")
"""Names of the blocks that make an environment, in the README's order; `.ci/run` executes them."""


def blocks(language: str) -> list[str]:
    """The fenced blocks in a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)
    return found


def table(column: str) -> list[str]:
    """The lines below the head of the table whose first column has that name."""
    _, _, below = README.read_text().partition(f"| {column} |")
    _, _, *lines = below.partition("\n\n")[0].splitlines()
    return lines


def installing() -> dict[str, str]:
    """The blocks that call pip, by name."""
    found = [block for block in blocks("sh") if "pip install" in block]
    return dict(zip(INSTALL, found, strict=True))


def commands() -> list[str]:
    """Every other command line."""
    lines = "".join(block for block in blocks("sh") if "pip install" not in block).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    print(installing()[sys.argv[1]], end="")  # noqa: T201 - a program for the shell
