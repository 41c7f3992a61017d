"""`mlxd doctor`: what would keep the server from working, and what to do about it."""

from pathlib import Path

import click

from mlxd.commands.options import config_option

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@config_option
def doctor(*, as_json: bool, config_file: Path | None) -> int:
    """Check what serving needs: MLX, memory, models, port, configuration."""
    from mlxd.commands.doctor_checks import examine
    from mlxd.commands.output.json_forms import DoctorEntry, DoctorReport, print_json

    findings = []
    for finding in examine(config_file):
        findings.append(DoctorEntry(*finding))
        if not as_json:
            level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
            click.echo(f"{level}  {finding.subject}: {finding.text}")
            if finding.remedy:
                click.echo(f"      {finding.remedy}")
    sound = all(each.level != "fail" for each in findings)
    if as_json:
        print_json(DoctorReport(ok=sound, findings=findings))
    return 0 if sound else 1
