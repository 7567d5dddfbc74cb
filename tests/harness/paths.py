"""Where things lie: the source tree, the build folder, the program under test, the tools."""
import os
import shutil
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent


def build_dir():
    """The build folder: environment O, else build/ (relative to the source tree, as for make)."""
    return (ROOT / os.environ.get("O", "build")).resolve()


def cprofiler_path():
    """The program under test: environment CPROFILER, else $O/cprofiler."""
    given = os.environ.get("CPROFILER")
    return Path(given).resolve() if given else build_dir() / "cprofiler"


def find_go():
    """The go command: environment GO, else from PATH or the usual places. None when there is none."""
    for candidate in (os.environ.get("GO"), "go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        found = candidate and shutil.which(candidate)
        if found:
            return found
    return None


def find_perf():
    """perf that really runs (Debian's wrapper may lack one for this kernel). None when there is none."""
    return shutil.which("perf")
