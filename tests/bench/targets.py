"""What is profiled: programs that do the same amount of work every time, about as long as asked."""
import os
import re
import shutil
from collections import namedtuple

from harness import programs, workloads

Target = namedtuple("Target", "name note make needs")

DEEP_PYTHON = """import sys, zlib
sys.setrecursionlimit(20000)
BLOCK = bytes(range(256)) * 32

def down(depth):
    if depth == 0:
        for _ in range(4000):
            zlib.crc32(BLOCK)
        return 1
    return sum(map(down, (depth - 1,)))

print(sum(down(400) for _ in range(int(sys.argv[1]))))
"""
TEMPLATES = """#include <algorithm>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Row { int key = N; std::string name = std::to_string(N); std::map<int, std::vector<int>> m; };
template <int N> int work(std::vector<Row<N>> &rows) {
    std::sort(rows.begin(), rows.end(), [](const Row<N> &a, const Row<N> &b) { return a.name < b.name; });
    std::unordered_map<std::string, Row<N>> all;
    for (auto &r : rows) { all[r.name] = r; r.m[N].push_back(r.key); }
    std::regex re("a[b-d]+" + std::to_string(N));
    return int(std::count_if(rows.begin(), rows.end(), [&](auto &r) { return std::regex_search(r.name, re); }) + all.size());
}
"""


def cc1plus(seconds):
    """The C++ compiler proper, on many instantiations: most of its frames are deep."""
    count = max(1, round(4 * seconds))

    def make(path):
        calls = "".join(f"int call{i}() {{ std::vector<Row<{i}>> v({i + 1}); return work<{i}>(v); }}\n"
                        for i in range(count))
        path.write_text(TEMPLATES + calls, encoding="ascii")
    return ["g++", "-O1", "-x", "c++", "-c", programs.keep(f"templates-{count}.txt", make), "-o", "/dev/null"]


def deep_python(seconds):
    """Python that recurses 400 deep through C: over 64 KB of machine stack."""
    path = programs.keep("deep.py", lambda p: p.write_text(DEEP_PYTHON, encoding="ascii"))
    return ["/usr/bin/python3", path, str(round(120 * seconds))]


def program(name, per_second):
    """One of harness.programs, its size for so many seconds."""
    return lambda seconds: programs.prepare(name, max(1, round(per_second * seconds)))


def workload(name, *arguments):
    """One of harness.workloads; callables among its arguments get the seconds."""
    return lambda seconds: [workloads.build(name), *(str(a(seconds) if callable(a) else a) for a in arguments)]


TARGETS = {t.name: t for t in [
    Target("sqlite", "CPU-bound, C", program("sqlite", 0.7), "sqlite3"),
    Target("xz", "CPU-bound, C, hand-written assembly", program("xz", 0.7), "xz"),
    Target("python", "CPU-bound, interpreter", program("python", 0.7), "/usr/bin/python3"),
    Target("gitpack", "git pack-objects", program("gitpack", 0.7), "git"),
    Target("gcc", "cc1 and as, below the driver", program("gcc", 0.7), "gcc"),
    Target("node", "JIT code, several threads", program("node", 1), "node"),
    Target("cc1plus", "g++ on templates", cc1plus, "g++"),
    Target("pingpong", "two threads that switch all the time", workload("pingpong", lambda s: round(1000 * s)), None),
    Target("threads200", "200 busy threads", workload("threads", 200, lambda s: 4 * s), None),
    Target("children", "short-lived children, 2 ms each", workload("forks", lambda s: round(500 * s), 2, 2), None),
    Target("recursion", "3000 frames of C++", workload("recursion", lambda s: s, 3000), None),
    Target("deeppython", "Python recursion over 64 KB of stack", deep_python, "/usr/bin/python3"),
]}


def missing(target):
    """Why a target can't run here; None when it can."""
    return None if not target.needs or shutil.which(target.needs) else f"{target.needs} is not installed"


def command_of(target, seconds):
    """The command line of a target, its program with its whole path."""
    words = [os.fspath(word) for word in target.make(seconds)]
    words[0] = shutil.which(words[0]) or words[0]
    return words


def chosen(names):
    """Targets by name or by all that matches a pattern."""
    return [t for t in TARGETS.values() if any(re.fullmatch(n, t.name) for n in names)]
