"""What the command `tune` does, once its arguments and config are known to be right."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.options import print_json
from orchestrator.config.schema import Config
from orchestrator.display.live.view import stderr
from orchestrator.training.interrupts import Interrupts
from orchestrator.tuning.launch import launch
from orchestrator.tuning.lines import Lines


def tune(
    config: Config,
    resumed: Path | None,
    *,
    runs_dir: Path,
    jobs: int,
    fresh: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Take a config to a finished search, and print its result.

    Returns:
        The exit code.
    """
    lines = Lines(stderr(), quiet=quiet)
    with Interrupts() as interrupts:
        found, _ = launch(
            config,
            runs_dir=runs_dir,
            announcer=lines,
            interrupts=interrupts,
            jobs=jobs,
            fresh=fresh,
            resumed=resumed,
        )
    if as_json:
        print_json(found)
    return found.exit_code or 0
