"""What a command prints at its end: the result of a run, and a diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.config import recorded
from orchestrator.diagnosis.health import Health
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.display import words
from orchestrator.display.charts import Legible
from orchestrator.display.text import clean
from orchestrator.policy import evidence
from orchestrator.record.checks import (
    FEW,
    OutputWorth,
    PredictionVarianceCheck,
    ValidationWorth,
    place,
)
from orchestrator.record.records import Attempt, Run
from orchestrator.record.storage.directory import Paths


def summarize_run(run: Run, directory: Path) -> RenderableType:
    """The end of a run: its attempts, how good the model is, and where it was saved.

    Args:
        run: the finished run.
        directory: its directory.
    """
    closing = (Text(clean(line)) for line in _closing(run, directory))
    return Legible(Group(_attempts_table(run), *closing))


def describe_health(found: Health) -> RenderableType:
    """A diagnosis: layers, outputs, verdicts, and what they mean.

    Args:
        found: what was found.
    """
    parts: list[RenderableType] = []
    if found.layers:
        parts.append(_layers_table(found))
    if any(output.varies is not None for output in found.outputs):
        parts.append(_outputs_table(found))
    verdicts = Table.grid(padding=(0, 2))
    for check in found.verdicts.values():
        style = words.STYLES[check.verdict]
        verdicts.add_row(
            Text(check.verdict.replace("_", " "), style), check.check, Text(clean(check.reason))
        )
    rows = f"Looked at {'all' if found.exact else 'the first'} {found.rows} rows"
    if not found.exact:
        rows += ", which no further one can change the verdicts of"
    if found.responding_rows is not None:
        rows += f"; on {found.responding_rows} an output responds to the inputs"
    parts += [verdicts, Text(f"\n{rows}."), *(Text(clean(each)) for each in found.summary())]
    return Legible(Group(*parts))


def _layers_table(found: Health) -> Table:
    """Each layer's dead units, near-dead ones and so on; a column of zeros alone is left out."""
    matters: dict[str, list[int]] = {
        "constant": [layer.constant.size for layer in found.layers],
        "saturated": [layer.saturated.size for layer in found.layers],
    }
    shown = {"near-dead": [layer.near_dead.size for layer in found.layers]}
    shown |= {name: counts for name, counts in matters.items() if any(counts)}
    if found.responding_rows is not None:
        shown["blocked"] = [
            0 if layer.blocked is None else layer.blocked.size for layer in found.layers
        ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("activation", overflow="fold")
    for name in ("units", "dead", *shown):
        table.add_column(name, justify="right", no_wrap=True)
    for index, layer in enumerate(found.layers):
        dead = Text("?" if layer.partial else str(layer.dead.size))
        if layer.units and layer.dead.size == layer.units:
            dead.stylize("red")
        counts = (str(counts[index]) for counts in shown.values())
        named = (Text(clean(each)) for each in (layer.name, layer.activation))
        table.add_row(*named, str(layer.units), dead, *counts)
    return table


def _outputs_table(found: Health) -> Table:
    """How well each output is predicted; a column that was not measured is left out."""
    values = {
        "variance ratio": [output.variance_ratio for output in found.outputs],
        "information": [output.information for output in found.outputs],
        "skill": [output.skill for output in found.outputs],
        "model's": [output.loss for output in found.outputs],
        "best constant's": [output.constant_loss for output in found.outputs],
    }
    named = any(output.function for output in found.outputs)
    shown = {
        name: column
        for name, column in values.items()
        if any(value is not None for value in column)
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("kind")
    for name in shown:
        if named and name == "model's":
            table.add_column("loss", overflow="fold")
        table.add_column(name, justify="right")
    for name, indices in _rows_of(found.outputs).items():
        first, cells = found.outputs[indices[0]], []
        for heading, column in shown.items():
            if named and heading == "model's":
                cells.append(Text(words.loss_name(first.function, first.kind)))
            cells.append(Text(_between([column[index] for index in indices])))
        table.add_row(Text(clean(name)), first.kind, *cells)
    return table


def _rows_of(outputs: Sequence[OutputSkill]) -> dict[str, list[int]]:
    """The columns that a row of a table tells of: one, or all of an output that has many."""
    of_output = Counter(output.name for output in outputs)
    rows: dict[str, list[int]] = {}
    for index, output in enumerate(outputs):
        count = of_output[output.name]
        if count > FEW:
            name = f"{output.name}, {count:,} columns" if output.name else f"{count:,} columns"
        else:
            name = place(output.output, output.name, output.column).removeprefix("output ")
        rows.setdefault(name, []).append(index)
    return rows


def _between(values: Sequence[float | None]) -> str:
    """A value, or the least and the greatest of several."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = f"{min(known):.3g}", f"{max(known):.3g}"
    return low if low == high else f"{low} to {high}"


def _attempts_table(run: Run) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("attempt", justify="right")
    table.add_column("remedy and change", overflow="fold")
    table.add_column("outcome", overflow="fold")
    table.add_column("skill", justify="right")
    table.add_column("seconds", justify="right")
    for attempt in run.attempts:
        skill = attempt.skill()
        table.add_row(
            str(attempt.attempt),
            Text(words.change(attempt)),
            _outcome(attempt),
            "" if skill is None else f"{skill:.3g}",
            f"{attempt.seconds:.1f}",
        )
    return table


def _outcome(attempt: Attempt) -> Text:
    if attempt.failure is None:
        style = "green" if attempt.status == "passed" else "yellow"
        return Text(attempt.status, style=style)
    failure = attempt.failure
    if failure.check == "findings":  # the conclusion says why
        causes = (finding.cause for finding in attempt.findings if finding.certain)
        return Text(f"not trained: {', '.join(causes)}", style="red")
    where = "" if failure.phase is None else f" at {clean(failure.phase)}"
    what = "" if failure.check == "crashed" else f" {clean(failure.check)}"
    text = Text(f"{attempt.status}{where}:{what}", style="red")
    return text.append(f"\n{clean(failure.reason)}", style="not bold default")


def _closing(run: Run, directory: Path) -> Iterator[str]:
    paths = Paths(directory)
    if run.accepted_attempt is not None:
        attempt = run.attempts[run.accepted_attempt - 1]
        yield from _quality(attempt)
        for path in (paths.model, paths.model_weights):
            if path.exists():
                yield f"Model: {words.relative(path)}"
        yield from _taken(run, attempt, raw=paths.model.exists())
        for number, reason in evidence.found_causes(run.attempts):
            if number != run.accepted_attempt:
                yield f"The evidence on attempt {number} points to: {reason}"
        changed = words.changed_model(run.attempts[: run.accepted_attempt])
        if changed:
            yield f"{changed[0].upper()}{changed[1:]}"
        for line in words.worth_knowing(run):
            yield f"{line[0].upper()}{line[1:]}"
    else:
        yield f"{run.status}: {run.conclusion}"
        if run.status == "interrupted":
            given = bool(recorded.lost(recorded.read(directory)))
            line = words.resuming(directory, given=given)
            yield f"{line[0].upper()}{line[1:]}"
        if run.best_attempt is not None:
            best = paths.attempt(run.best_attempt)
            kept = [path for path in (best.checkpoint, best.checkpoint_weights) if path.exists()]
            state = f", its state is in {words.relative(kept[0])}" if kept else ""
            yield f"Best attempt: {run.best_attempt}{state}"
    for warning in run.warnings:
        yield f"warning: {warning}"
    yield f"Record: {words.relative(directory)}, {run.seconds:.1f} s in all"


def _taken(run: Run, attempt: Attempt, *, raw: bool) -> Iterator[str]:
    """What the model takes that was saved; a model, unlike weights alone, standardises it."""
    columns = ", ".join(run.inputs.columns)
    own = "inputs" in attempt.standardization
    if not raw and (own or run.inputs.standardization):
        taken = f"the columns {columns}, in this order," if columns else "inputs"
        where = f"of attempt {attempt.attempt}" if own else "of the inputs"
        yield f"It takes {taken} standardised by the means and variances {where} in run.json."
    elif columns:
        yield f"It takes the raw columns {columns}, in this order."


def _quality(attempt: Attempt) -> Iterator[str]:
    """The model's loss beside the best constant's, for each output and set of rows."""
    check = attempt.phases[-1].find(PredictionVarianceCheck)
    if check is None:
        return
    measured = check.measured
    sets: Mapping[str, Sequence[OutputWorth | ValidationWorth]]
    sets = {"Validation": measured.validation, "Training": measured.outputs}
    for rows, columns in sets.items():
        for name, pairs in words.by_output(measured.outputs, columns).items():
            told = words.worth(name, pairs)
            if told:
                yield f"{rows}: {told}"
