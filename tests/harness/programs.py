"""Real programs as Debian ships them, with inputs made here: no network, the same work every time.

`prepare(NAME, SIZE)` gives the command line; inputs are kept in $O/programs. SIZE scales the work.
"""
import fcntl
import glob
import os
import random
import shutil
import subprocess
import tempfile

from .paths import build_dir


def folder():
    """Where inputs are kept."""
    path = build_dir() / "programs"
    path.mkdir(parents=True, exist_ok=True)
    return path


def keep(name, make):
    """The file $O/programs/NAME, made by make(path) when it is missing."""
    path = folder() / name
    if not path.exists():
        half = folder() / f".{name}.{os.getpid()}"
        make(half)
        os.replace(half, path)
    return str(path)


def sqlite(size):
    """Joins, sorts, LIKE, groups and a window over generated tables, in memory."""
    def make(path):
        setup = """create table city(id integer primary key, name text, region int, people real);
with recursive c(i) as (select 0 union all select i+1 from c where i < 30000)
insert into city select i, printf('%s-%05d', hex(i*40503 % 65521), i*7919 % 30011), i*31 % 613,
 (i*1009 % 9973)/3.0 from c;
create index city_region on city(region);
create table visit as select i.id*17 % 30000 city, i.id % 365 day, i.people cost from city i;
create index visit_city on visit(city);
"""
        load = """select region, count(*), sum(people), max(name) from city group by region order by 3 desc limit 3;
select count(*) from visit v join city c on c.id = v.city where c.name like '%A7%';
select name from (select name, rank() over (partition by region order by people desc, name) r from city)
 where r = 2 order by name limit 5;
select sum(length(replace(name, '-', '::'))) from city;
select day, sum(cost) from visit where city in (select id from city where region < 200) group by day
 order by 2 desc limit 3;
"""
        path.write_text(setup + load * (40 * size), encoding="ascii")
    return ["sqlite3", ":memory:", f".read {keep(f'load-{size}.sql', make)}"]


def python(size):
    """Pure Python: dicts, strings, regular expressions, sorting, JSON, recursion, big numbers."""
    source = '''import json, re, sys

def walk(tree, depth):
    return 1 + sum(walk(branch, depth + 1) for branch in tree) if depth < 9 else len(tree)

def ackermann(m, n):
    return n + 1 if m == 0 else ackermann(m - 1, 1 if n == 0 else ackermann(m, n - 1))

def round_of_work(i):
    words = ["%s%d" % (chr(97 + (j * i) % 26) * (j % 5 + 1), j * 7919 % 10007) for j in range(6000)]
    counts = {}
    for word in words:
        counts[word[:2]] = counts.get(word[:2], 0) + len(word)
    text = json.dumps({"words": words, "counts": counts})
    back = json.loads(text)
    found = len(re.findall(r"([a-e]+)(\\\\d*)3\\\\b", " ".join(back["words"])))
    order = sorted(back["words"], key=lambda w: (w[-3:], len(w)))
    tree = [[[[], []], [[]]], [[[[]]], []]] * 3
    return found + len(order[7]) + walk(tree, 0) + ackermann(2, 60) + pow(7, 9001, 10 ** 400 + 69) % 97

print(sum(round_of_work(i) for i in range(int(sys.argv[1]))))
'''
    path = keep("load.py", lambda p: p.write_text(source.replace("\\\\\\\\", "\\"), encoding="ascii"))
    return ["/usr/bin/python3", path, str(480 * size)]


def text_file(megabytes):
    """Real text and machine code from this system, as long as asked."""
    def make(path):
        left = megabytes << 20
        with open(path, "wb") as out:
            for pattern in ("/usr/lib/python3*/**/*.py", "/usr/lib/x86_64-linux-gnu/*.so.*", "/usr/bin/*"):
                for name in sorted(glob.glob(pattern, recursive=True)):
                    if left > 0 and os.path.isfile(name) and not os.path.islink(name):
                        with open(name, "rb") as part:
                            left -= out.write(part.read(min(left, 1 << 20)))
    return keep(f"data-{megabytes}.bin", make)


def xz(size):
    """One thread of LZMA."""
    return ["xz", "-T1", "-6", "-c", text_file(8 * size)]


def repository():
    """A git repository of 2500 commits, from `git fast-import`."""
    path = folder() / "history.git"
    if (path / "complete").exists():
        return str(path)
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["git", "init", "-q", "-b", "main", "--bare", str(path)], check=True, timeout=30)
    pick = random.Random(41)
    files = {f"src/part{i:02}.c": [f"int value_{i}_{j} = {pick.randrange(10**6)};" for j in range(150)]
             for i in range(60)}
    with subprocess.Popen(["git", "-C", str(path), "fast-import", "--quiet"], stdin=subprocess.PIPE) as feed:
        for commit in range(2500):
            text = f"step {commit}\n"
            feed.stdin.write(f"commit refs/heads/main\ncommitter T <t@example.org> {1600000000 + commit * 600} "
                             f"+0000\ndata {len(text)}\n{text}".encode())
            for name in (list(files) if commit == 0 else pick.sample(sorted(files), 4)):
                lines = files[name]
                for _ in range(pick.randrange(1, 12)):
                    at = pick.randrange(len(lines))
                    lines[at] = f"int changed_{commit}_{at} = {pick.randrange(10**6)} + {lines[at][:30]!r}[2];"
                    if pick.random() < 0.3:
                        lines.insert(at, f"/* {pick.randrange(10**9)} */")
                blob = "\n".join(lines).encode() + b"\n"
                feed.stdin.write(f"M 100644 inline {name}\ndata {len(blob)}\n".encode() + blob + b"\n")
        feed.stdin.close()
        if feed.wait(timeout=120):
            raise RuntimeError("git fast-import failed")
    (path / "complete").touch()
    return str(path)


def gitlog(size):
    """Diffs of the history."""
    return ["git", "-C", repository(), "-c", "core.pager=cat", "log", "-p", "--patience",
            "--word-diff=porcelain", "-n", str(2500 * size), "main"]


def gitpack(size):
    """What gc and clone do: delta search over the whole history, one thread."""
    return ["git", "-C", repository(), "-c", "pack.threads=1", "pack-objects", "--all", "--no-reuse-delta",
            f"--window={2 * size}", "--stdout", "-q"]


def gcc(size):
    """The compiler driver with cc1 and as, on generated C."""
    def make(path):
        pick = random.Random(43)
        out = ["struct item { int a, b; double d; unsigned long u; char s[24]; };\n"
               "extern int outside(int, const char *); extern struct item pool[128];\n"
               "static inline int bound(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }\n"]
        for i in range(240 * size):
            cases = "".join(
                f"    case {c}: p->u = (p->u << {pick.randrange(1, 30)}) ^ {pick.randrange(1 << 30)}u; "
                f"p->a += bound(x, -{pick.randrange(9, 99)}, {pick.randrange(9, 999)}); break;\n"
                for c in range(pick.randrange(5, 12)))
            call = f"work{i - 1}(x + 1, p, v, n - 1)" if i else "0"
            out.append(
                f"{pick.choice(['static', 'static inline', '__attribute__((noinline)) static'])} "
                f"int work{i}(int x, struct item *p, const double *v, int n)\n{{\n    double sum = 0;\n"
                f"    for (int i = 0; i < n; i++) {{\n        sum += v[i] * {pick.randrange(1, 99)}.25;\n"
                f"        for (int j = i; j < n; j += {pick.randrange(1, 7)})\n"
                f"            if ((p->s[j & 15] ^ i) & {pick.randrange(1, 63)}) sum -= v[j]; "
                f"else p->b += pool[(i + j) & 127].a;\n    }}\n    switch (x % {pick.randrange(5, 17)}) {{\n"
                f"{cases}    default: p->d += sum;\n    }}\n"
                f"    while (p->u > {pick.randrange(1 << 20)}u) {{ p->u /= {pick.randrange(2, 9)}; "
                f"p->a += (int)p->d; if (p->a & 1) p->b = outside(p->a, p->s); }}\n"
                f"    return p->a + p->b + (int)sum + {call};\n}}\n")
        out.append(f"int entry(int x, struct item *p, const double *v, int n) "
                   f"{{ return work{240 * size - 1}(x, p, v, n); }}\n")
        path.write_text("".join(out), encoding="ascii")
    return ["gcc", "-O2", "-w", "-x", "c", "-c", keep(f"generated-{size}.txt", make), "-o", "/dev/null"]


def node(size):
    """JavaScript: JIT code, garbage collection, JSON, regular expressions, sorting."""
    source = """'use strict';
let state = 12345;
function random() { state = (state * 1103515245 + 12345) & 0x7fffffff; return state / 0x7fffffff; }
function hanoi(n) { return n === 0 ? 0 : 2 * hanoi(n - 1) + 1 + (hanoi(n - 3 > 0 ? n - 3 : 0) & 1); }
class Body { constructor(x, v) { this.x = x; this.v = v; }
  step(others) { let f = 0; for (const o of others) f += (o.x - this.x) / (1 + Math.abs(o.x - this.x));
    return new Body(this.x + this.v * 0.01, this.v + f * 0.001); } }
function round() {
  const items = [];
  for (let i = 0; i < 6000; i++) items.push({key: 'k' + Math.floor(random() * 1e6), at: i, w: random()});
  const back = JSON.parse(JSON.stringify(items));
  back.sort((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at);
  let bodies = []; for (let i = 0; i < 60; i++) bodies.push(new Body(random(), random()));
  for (let t = 0; t < 60; t++) bodies = bodies.map(b => b.step(bodies));
  const text = back.map(b => b.key).join(','); const m = new Map();
  for (const w of text.split(',')) m.set(w.slice(0, 4), (m.get(w.slice(0, 4)) || 0) + 1);
  return hanoi(16) + m.size + text.replace(/k(\\d)(\\d*)7\\b/g, 'z$2').length + Math.floor(bodies[0].x);
}
let total = 0; for (let i = 0; i < +process.argv[2]; i++) total += round();
console.log(total);
"""
    path = keep("load.js", lambda p: p.write_text(source, encoding="ascii"))
    return ["node", path, str(300 * size)]


def cc1plus(size):
    """The C++ compiler proper on templates of the standard library."""
    def make(path):
        source = ("#include <algorithm>\n#include <iostream>\n#include <map>\n#include <regex>\n"
                  "#include <string>\n#include <vector>\n"
                  "template <int N> int work(std::map<std::string, std::vector<int>> &m) {\n"
                  "    std::regex r(\"a+(b|c)*d\");\n    std::vector<std::string> names;\n"
                  "    for (auto &p : m) if (std::regex_search(p.first, r)) names.push_back(p.first);\n"
                  "    std::stable_sort(names.begin(), names.end());\n"
                  "    return int(names.size()) + N + work<N - 1>(m);\n}\n"
                  "template <> int work<0>(std::map<std::string, std::vector<int>> &) { return 0; }\n"
                  "int main() { std::map<std::string, std::vector<int>> m; "
                  f"std::cout << work<{12 * size}>(m); }}\n")
        subprocess.run(["g++", "-E", "-P", "-x", "c++", "-", "-o", str(path)], input=source.encode(),
                       check=True, timeout=60)
    compiler = subprocess.run(["g++", "-print-prog-name=cc1plus"], check=True, text=True, timeout=30,
                              stdout=subprocess.PIPE).stdout.strip()
    return [compiler, "-O2", "-quiet", keep(f"templates-{size}.ii", make), "-o", "/dev/null"]


def perl(size):
    """Perl: hashes, regular expressions, sorting, recursion."""
    source = r"""my ($total, $n) = (0, 12345);
sub depth { my ($d) = @_; return $d < 1 ? 1 : depth($d - 1) + ($d & 3); }
for my $round (1 .. $ARGV[0]) {
    my %words;
    for my $i (1 .. 4000) { $n = ($n * 1103515245 + 12345) & 0x7fffffff; $words{"w" . $n % 5003} += $i; }
    my $text = join ",", map { "$_=$words{$_}" } sort { $words{$a} <=> $words{$b} || $a cmp $b } keys %words;
    $total += () = $text =~ /w(\d+)7=(\d*)3\b/g;
    $total += depth(60);
}
print "$total\n";
"""
    return ["perl", keep("load.pl", lambda p: p.write_text(source, encoding="ascii")), str(200 * size)]


def openssl(size):
    """Hand-written assembly: hashes, ciphers, big numbers."""
    return ["openssl", "speed", "-seconds", str(size), "sha256", "rsa2048", "aes-128-cbc", "ecdsap256"]


def ripgrep(size):
    """A Rust program: regular expressions over files, one thread."""
    return ["rg", "-j1", "-c", "-a", r"(\w+)tion\b.*(a|b)[0-9]+|(?i)[k-r]{3,7}xyz", *[text_file(8)] * (2 * size)]


def golang(size):
    """A Go program: goroutines, garbage collection, maps, sorting; built here."""
    source = """package main

import (
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
)

type node struct {
	left, right *node
	key         int
	text        string
}

func (n *node) insert(key int) *node {
	if n == nil {
		return &node{key: key, text: strconv.Itoa(key)}
	}
	if key < n.key {
		n.left = n.left.insert(key)
	} else {
		n.right = n.right.insert(key)
	}
	return n
}

func (n *node) visit(f func(*node)) {
	if n != nil {
		n.left.visit(f)
		f(n)
		n.right.visit(f)
	}
}

func work(seed int) int {
	var root *node
	words := map[string]int{}
	for i := 0; i < 3000; i++ {
		seed = (seed*1103515245 + 12345) & 0x7fffffff
		root = root.insert(seed % 100000)
		words[strconv.Itoa(seed%1000)] += i
	}
	var keys []string
	for key := range words {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool { return words[keys[i]] < words[keys[j]] })
	total := strings.Count(strings.Join(keys, ","), "7")
	root.visit(func(n *node) { total += len(n.text) })
	return total
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	results := make(chan int)
	var wait sync.WaitGroup
	for i := 0; i < rounds; i++ {
		wait.Add(1)
		go func(i int) { defer wait.Done(); results <- work(i) }(i)
	}
	go func() { wait.Wait(); close(results) }()
	total := 0
	for result := range results {
		total += result
	}
	println(total)
}
"""
    def make(path):
        with tempfile.TemporaryDirectory(dir=folder()) as place:
            with open(f"{place}/load.go", "w", encoding="ascii") as file:
                file.write(source)
            subprocess.run(["go", "build", "-o", str(path), "load.go"], cwd=place, check=True, timeout=250,
                           env={**os.environ, "GOCACHE": str(folder() / "gocache"), "GO111MODULE": "off"})
    return [keep("load-go", make), str(700 * size)]


PROGRAMS = {"sqlite": sqlite, "python": python, "xz": xz, "gitlog": gitlog, "gitpack": gitpack,
            "gcc": gcc, "node": node}
# Beyond those whose leaf functions are compared with perf's: only their stacks are looked at.
MORE_PROGRAMS = {"cc1plus": cc1plus, "perl": perl, "openssl": openssl, "ripgrep": ripgrep, "go": golang}


def prepare(name, size=1):
    """The command line of a program. Its inputs are made by one process at a time."""
    with open(folder() / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {**PROGRAMS, **MORE_PROGRAMS}[name](size)


def missing(name):
    """Why the program can't run here; None when it can."""
    tool = {"sqlite": "sqlite3", "python": "/usr/bin/python3", "gitlog": "git", "gitpack": "git",
            "cc1plus": "g++", "ripgrep": "rg"}.get(name, name)
    return None if shutil.which(tool) else f"{tool} is not installed"
