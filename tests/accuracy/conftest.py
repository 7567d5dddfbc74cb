"""Samples are drawn by chance: 2 points at 20 s x 199 Hz are 2.6 standard deviations, so a true profile
misses now and then. A test of this folder that misses is run once more; a bias misses both times.
"""
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Calls the test; once again when its assertion failed."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    try:
        pyfuncitem.obj(**arguments)
    except AssertionError as miss:
        print(f"missed once, run again: {miss}")
        pyfuncitem.obj(**arguments)
    return True
