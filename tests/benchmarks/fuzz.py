"""Broken and hostile configs and records by the hundred thousand: no traceback, nothing executed.

    nice python tests/benchmarks/fuzz.py [--inputs 100000] [--seed 0]

Half of the inputs are configs, half are runs one file of which was changed; tests/fuzzing.py says
how, and what must hold. A failure is told with what led to it, and once for each place in the code.
Told at the end are the counts of what was read and refused, and the slowest input. Memory is bound
to 4 GB, and any attempt to execute or to delete something fails the input.
"""

from __future__ import annotations

import collections
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests import builders, fuzzing

_BATCH = 2_000
_MEMORY = 4 << 30
_FORBIDDEN = frozenset(
    "os.system os.exec os.posix_spawn subprocess.Popen pickle.find_class os.remove os.rmdir "
    "os.rename os.symlink shutil.rmtree socket.connect".split()
)
"""What Python tells its audit hooks of, and no reading needs."""


@click.command()
@click.option("--inputs", default=100_000)
@click.option("--seed", default=0)
def main(inputs: int, seed: int) -> None:
    """Print what was found."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    failures: collections.Counter[tuple[str, str, int]] = collections.Counter()
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:
        reader = fuzzing.Reader(Path(folder))
        watch = _Watch()
        begun = time.process_time()
        for name, strategy, read in (
            ("configs", fuzzing.config_files(), reader.read_config),
            ("records", fuzzing.records(), reader.read_record),
        ):
            for start in range(0, inputs // 2, _BATCH):
                count = min(_BATCH, inputs // 2 - start)
                with watch:
                    _run(count, seed + start, strategy, read, failures)
                done = f"{name}: {start + count:,} of {inputs // 2:,}, seed {seed + start}"
                click.echo(f"{done}, {sum(failures.values())} failures", err=True)
        seconds = time.process_time() - begun
    for kind, count in sorted(reader.counts.items()):
        click.echo(f"{kind:<28} {count:>8,}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"{inputs:,} inputs from seed {seed}, {seconds:,.0f} s of processor time, slowest "
               f"{reader.slowest:.2f} s, peak memory {peak:,.0f} MB")  # fmt: skip
    click.echo(f"{sum(failures.values())} failures at {len(failures)} places")
    sys.exit(1 if failures else 0)


def _run(
    count: int,
    seed: int,
    strategy: st.SearchStrategy[Any],
    read: Callable[[Any], None],
    failures: collections.Counter[tuple[str, str, int]],
) -> None:
    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(given: Any) -> None:
        try:
            read(given)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = (type(error).__name__, last.filename, last.lineno or 0)
            if not failures[place]:
                # The message may be what is far too long.
                told = traceback.format_tb(error.__traceback__)[-4:]
                click.echo(f"{''.join(told)}{repr(error)[:1000]}\n{repr(given)[:1000]}", err=True)
            failures[place] += 1

    each()


class _Watch:
    """Refuses what reading has no need of, while it is entered."""

    def __init__(self) -> None:
        self._on = False
        sys.addaudithook(self._heard)

    def __enter__(self) -> None:
        self._on = True

    def __exit__(self, *exception: object) -> None:
        self._on = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event in _FORBIDDEN:
            raise AssertionError(f"{event} {arguments!r}")


if __name__ == "__main__":
    main()
