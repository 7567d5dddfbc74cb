"""Targets whose answer is known."""
import subprocess
import time

import pytest

from harness import processes, workloads
from harness.steady import WORK


@pytest.fixture(scope="session")
def right_answer(workload):
    """What `steady` says when nobody looks."""
    done = subprocess.run([workload("steady"), WORK], check=True, stdout=subprocess.PIPE, timeout=60)
    return workloads.truth_of(done.stdout)


@pytest.fixture
def steady(workload):
    """A running `steady` after its first line."""
    with processes.running([workload("steady"), WORK], stdout=subprocess.PIPE) as target:
        assert target.stdout.readline() == b"ready\n"
        assert processes.wait_until(lambda: len(processes.threads(target.pid)) == 2)
        time.sleep(0.1)
        yield target
