"""The engine process: `python -m mlxd.engine --fd N`, started by the supervisor."""

import argparse
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading

from mlxd.engine.process.imports import engine_imports

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that prepares prompts lets the step loop go on."""
MLX_LM_FILES = 4096
"""The limit of open files that mlx-lm sets when it is imported, whether it may or not."""


class OutputLines(logging.Formatter):
    """Each line with its level and logger, by which the server logs it as what it is."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return "\n".join(f"{record.levelname} {record.name}: {line}" for line in lines)


def keep_file_limit() -> None:
    """Let mlx-lm be imported where the limit of open files is lower and must stay so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= MLX_LM_FILES:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, MLX_LM_FILES))
    except (OSError, ValueError):
        vars(resource)["setrlimit"] = lambda *_: None


def main() -> None:
    """Serve one supervisor on the socket it passed, until that socket closes."""
    parser = argparse.ArgumentParser(prog="python -m mlxd.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the supervisor's socket")
    logging.basicConfig()
    logging.getLogger().handlers[0].setFormatter(OutputLines())
    # The server, which has the level that is configured, leaves out what is not to be seen.
    logging.getLogger("mlxd.engine.models").setLevel(logging.DEBUG)
    connection = socket.socket(fileno=parser.parse_args().fd)
    # Ctrl-C, a closed terminal and a service manager's SIGTERM, which may reach all processes, are
    # the server's to handle; it ends this process when it has drained.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A model that is not here is an error, never a download.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # transformers would tell at every start that PyTorch, which nobody needs here, is missing.
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    keep_file_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    with engine_imports() as blas:
        from mlxd.engine.process.input_threads import EngineSocket, Job, Preparer, read_commands
        from mlxd.engine.process.worker import Worker

    server = EngineSocket(connection)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    preparer = Preparer(server, jobs)
    for name, target in (
        ("reader", lambda: read_commands(connection, jobs, preparer)),
        ("prep", preparer.run),
    ):
        threading.Thread(target=target, name=name, daemon=True).start()
    Worker(server, jobs, preparer, blas=blas).run()


if __name__ == "__main__":
    main()
