"""The command `schema`."""

from __future__ import annotations

import click

from orchestrator.cli import options
from orchestrator.config import json_schema
from orchestrator.record.records import JSON_SCHEMA


@click.command()
@click.argument("what", type=click.Choice(["config", "record"]), default="config")
@click.option(
    "--json", is_flag=True, expose_value=False, help="Makes no difference: it is JSON always."
)
@options.debug
def schema(what: str) -> int:
    r"""Print the JSON schema of configs, with which editors complete them, or of records.

    Save it beside the configs as orchestrate.schema.json, and put this line on top of each:

    \b
    # yaml-language-server: $schema=orchestrate.schema.json
    """
    if what == "record":
        click.echo(JSON_SCHEMA.read_text(encoding="utf-8"), nl=False)
    else:
        options.print_json(json_schema.json_schema())
    return 0
