"""`mlxd doctor`: what would keep the server from working, and what to do about it."""

from pathlib import Path

import click

from mlxd.commands.options import config_option

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@config_option
def doctor(*, config_file: Path | None) -> int:
    """Check what serving needs: MLX, memory, models, port, configuration."""
    from mlxd.commands.doctor_checks import examine

    failed = False
    for finding in examine(config_file):
        level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
        click.echo(f"{level}  {finding.subject}: {finding.text}")
        if finding.remedy:
            click.echo(f"      {finding.remedy}")
        failed = failed or finding.level == "fail"
    return 1 if failed else 0
