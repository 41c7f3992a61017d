"""Units as text: what their managers read in them."""

import plistlib
from pathlib import Path

import pytest

from mlxd.service.units import Service, launchd_plist, systemd_unit

HOME = Path("/home/me")
PROGRAM = "/home/me/.local/bin/mlxd"
SYSTEMD = """\
# Written by `mlxd service install`, which writes it anew.
[Unit]
Description=mlxd, the local inference server
StartLimitIntervalSec=300
StartLimitBurst=5
[Service]
Type=exec
ExecStart=%h/.local/bin/mlxd serve --service
ExecReload=/bin/kill -HUP $MAINPID
Environment="HF_HOME=/a \\"b\\" 5%% $c \\\\"
Restart=on-failure
RestartSec=2
# 2 configuration, 3 port or store in use
RestartPreventExitStatus=2 3
TimeoutStopSec=45
# TERM to the server alone, which drains
KillMode=mixed
# an engine that the kernel killed is replaced by the supervisor
OOMPolicy=continue
NoNewPrivileges=yes
[Install]
WantedBy=default.target
"""
LAUNCHD_KEYS = {
    *("Label", "ProgramArguments", "EnvironmentVariables", "RunAtLoad", "KeepAlive"),
    *("ThrottleInterval", "ExitTimeOut", "ProcessType", "StandardErrorPath"),
}
"""Of launchd.plist(5)."""


def service(program: str = PROGRAM, **environment: str) -> Service:
    return Service(
        command=(program, "serve", "--service"),
        home=HOME,
        log_folder=HOME / "Logs",
        stop_seconds=45,
        environment=environment,
    )


def test_the_unit_of_systemd_is_this() -> None:
    assert systemd_unit(service(HF_HOME='/a "b" 5% $c \\')) == SYSTEMD


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("/usr/local/bin/mlxd", "/usr/local/bin/mlxd"),
        ("/home/me/my apps/mlxd", '"%h/my apps/mlxd"'),
        ("/home/user/mlxd", "/home/user/mlxd"),
        ("/odd/100%h/$x/mlxd", "/odd/100%%h/$$x/mlxd"),
        ('/odd/a"b\\c/mlxd', '"/odd/a\\"b\\\\c/mlxd"'),
    ],
)
def test_a_path_means_to_systemd_what_it_is(program: str, written: str) -> None:
    assert f"\nExecStart={written} serve --service\n" in systemd_unit(service(program))


def test_the_list_of_launchd_has_keys_that_it_knows() -> None:
    text = launchd_plist(service(HF_HOME="/a & <b>"))
    found = plistlib.loads(text.encode())
    assert found.keys() == LAUNCHD_KEYS
    assert found["Label"] == "local.mlxd"
    assert found["ProgramArguments"] == [PROGRAM, "serve", "--service"]
    assert found["EnvironmentVariables"] == {"PATH": "/usr/bin:/bin", "HF_HOME": "/a & <b>"}
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["RunAtLoad"] is True
    assert (found["ThrottleInterval"], found["ExitTimeOut"]) == (10, 45)
    assert found["ProcessType"] == "Interactive"
    assert found["StandardErrorPath"] == "/home/me/Logs/crash.log"
    assert "Written by `mlxd service install`" in text
