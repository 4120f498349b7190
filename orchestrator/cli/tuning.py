"""What the command `tune` does, once its arguments and config are known to be right."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from orchestrator.cli.options import detail, print_json
from orchestrator.config.schema import Config
from orchestrator.display import charts
from orchestrator.display.live.view import stderr
from orchestrator.display.search.result import summarize_search
from orchestrator.display.search.view import SearchView
from orchestrator.record import search as records
from orchestrator.training.interrupts import Interrupts
from orchestrator.tuning.launch import launch


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
    console = stderr()
    if resumed is not None and (known := records.read(resumed)).status == "finished":
        found, directory = known, resumed
    else:
        view = SearchView(console, detail=detail(as_json=as_json, quiet=quiet))
        with Interrupts() as interrupts, view:
            found, directory = launch(
                config,
                runs_dir=runs_dir,
                announcer=view,
                interrupts=interrupts,
                jobs=jobs,
                fresh=fresh,
                resumed=resumed,
                command=shlex.join(["orchestrate", *sys.argv[1:]]),
            )
    if as_json:
        print_json(found)
    # With --json stdout is the record's alone.
    if not (as_json and quiet):
        (console if as_json else charts.stdout()).print(
            summarize_search(found, directory), highlight=False
        )
    return found.exit_code or 0
