"""As much of SLURM as one machine can play: sbatch runs a script, srun tasks, scontrol repeats it.

Called by the name of the command it stands for. Everything is kept in the folder $FAKE_SLURM:
`script-ID.sh` as submitted, `pids-ID` of the running tasks, `scontrol.log`. With FAKE_SLURM_RUNS=no
a script is only kept.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

FIRST_JOB = 100
FOLDER = Path(os.environ.get("FAKE_SLURM", "."))


def install(folder: Path) -> Path:
    """Make the commands in `folder` and return the folder for PATH."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        path.chmod(0o755)
    return commands


def sbatch(script: str) -> int:
    text = Path(script).read_text()
    (FOLDER / f"script-{FIRST_JOB}.sh").write_text(text)
    print(f"Submitted batch job {FIRST_JOB}")
    if os.environ.get("FAKE_SLURM_RUNS") == "no":
        return 0
    array = re.search(r"#SBATCH --array=0-(\d+)", text)
    for index in range(int(array[1]) + 1) if array else [None]:
        names = {"SLURM_JOB_ID": FIRST_JOB + (index or 0), "SLURM_JOB_NAME": "train"}
        if index is not None:
            names |= {"SLURM_ARRAY_JOB_ID": FIRST_JOB, "SLURM_ARRAY_TASK_ID": index}
        environment = os.environ | {name: str(value) for name, value in names.items()}
        command = [sys.executable, __file__, "job", str(FOLDER / f"script-{FIRST_JOB}.sh")]
        with (FOLDER / "job.log").open("a") as log:
            subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
    return 0


def job(script: str) -> int:
    """Run the script, and again as long as it asks to be queued again."""
    again = FOLDER / f"requeue-{_name()}"
    tasks = re.search(r"#SBATCH --ntasks-per-node=(\d+)", Path(script).read_text())
    number = tasks[1] if tasks else "1"
    environment = os.environ | {"SLURM_NTASKS": number, "SLURM_NTASKS_PER_NODE": number}
    while True:
        again.unlink(missing_ok=True)
        subprocess.run(["bash", script], env=environment, check=False)
        if not again.exists():
            return 0


def srun(*arguments: str) -> int:
    command = list(arguments)
    output = "task-%t.log"
    while command[0].startswith("--"):
        option = command.pop(0)
        if option in ("--output", "--error"):
            value = command.pop(0)
            output = value if option == "--output" else output
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        ranks = {"PROCID": rank, "LOCALID": rank, "NODEID": 0, "NNODES": 1, "NODELIST": "127.0.0.1"}
        environment = os.environ | {f"SLURM_{name}": str(value) for name, value in ranks.items()}
        parts = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID"}
        path = output.replace("%t", str(rank))
        for sign, name in parts.items():
            path = path.replace(sign, os.environ.get(name, ""))
        with Path(path).open("a") as log:
            tasks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    (FOLDER / f"pids-{_name()}").write_text(" ".join(str(task.pid) for task in tasks))
    return max(abs(task.wait()) for task in tasks)


def scontrol(*arguments: str) -> int:
    with (FOLDER / "scontrol.log").open("a") as log:
        log.write(shlex.join(arguments) + "\n")
    (FOLDER / f"requeue-{arguments[1]}").touch()
    return 0


def sacct(*arguments: str) -> int:
    return 0


def _name() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


if __name__ == "__main__":
    raise SystemExit(globals()[sys.argv[1]](*sys.argv[2:]))
