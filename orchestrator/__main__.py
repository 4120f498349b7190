"""`python -m orchestrator` is `orchestrate`."""

from orchestrator.cli.app import main

main()
