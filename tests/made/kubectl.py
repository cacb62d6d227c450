"""A stand-in for kubectl: keeps jobs as files in a folder, and runs here what a pod would.

Takes of kubectl's arguments those that profiles/kubernetes uses, and answers as it does.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

JOBS = Path(os.environ["JOBS"])
CONDITIONS = {"": "", "0": "SuccessCriteriaMet Complete"}


def create(*_words: str) -> None:
    job = yaml.safe_load(sys.stdin)
    name = Path(tempfile.mkdtemp(prefix=job["metadata"]["generateName"], dir=JOBS)).name
    (JOBS / name / "job.yaml").write_text(yaml.safe_dump(job))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shell = ["sh", "-c", '"$@"; echo $? > code.part; mv code.part code', "pod"]
    subprocess.Popen(
        [*shell, *container["command"]],
        cwd=JOBS / name,
        stdin=subprocess.DEVNULL,
        stdout=(JOBS / name / "stdout").open("w"),
        stderr=subprocess.STDOUT,
    )
    print(f"job.batch/{name}")


def get(name: str, *_words: str) -> None:
    job = JOBS / name.removeprefix("job.batch/")
    if job.is_dir():
        code = (job / "code").read_text().strip() if (job / "code").is_file() else ""
        print(job.name, CONDITIONS.get(code, "FailureTarget Failed"))


{"create": create, "get": get}[sys.argv[1]](*sys.argv[2:])
