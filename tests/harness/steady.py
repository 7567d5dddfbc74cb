"""The workload `steady`: it knows its answer, and counts the signals it gets meanwhile."""
from . import workloads

WORK = "900"  # millions of rounds in each of two threads of `steady`: about three seconds


def assert_right(stdout, right_answer):
    """The answer is the one of an undisturbed run."""
    truth = workloads.truth_of(stdout)
    assert (truth["result"], truth["num_signals"]) == (right_answer["result"], right_answer["num_signals"])
