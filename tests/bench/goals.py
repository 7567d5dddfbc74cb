"""The targets that the project has set itself, each judged on the figures of this very run. They are never loosened:
what is missed is shown as missed. Source: the tables of docs/overhead.md."""

import statistics

WITHOUT_DWARF = ("sqlite", "xz", "python", "gitpack", "node")  # as Debian ships them
WITH_DWARF = ("pingpong", "threads200", "recursion")  # built here with -g
CPU_BOUND = ("sqlite", "xz", "python", "gitpack", "gcc", "cc1plus")


def columns(figures, section, recorder, column):
    """{target: figure} of a recorder."""
    table = figures.get(section, {}).get("table", {})
    found = {target: rows.get(recorder, {}).get(column) for target, rows in table.items()}
    return {target: value for target, value in found.items() if value is not None}


def ratios(figures, section, column, peer, only=None):
    """{target: our figure over the peer's}."""
    ours, theirs = (columns(figures, section, who, column) for who in ("cprofiler", peer))
    return {t: ours[t] / theirs[t] for t in ours if theirs.get(t) and (only is None or t in only)}


def at_most(name, values, limit, form="{:.3f}", text=None):
    """A row of the closing table: every value has to be at most `limit`. text: how the limit is written."""
    return judged(name, values, lambda v: v <= limit, max, form, f"<= {text or form.format(limit)}")


def at_least(name, values, limit, form="{:.3f}"):
    """Likewise, at least."""
    return judged(name, values, lambda v: v >= limit, min, form, f">= {form.format(limit)}")


def within(name, values, limit):
    """Likewise, at most so far from 1."""
    return judged(name, {t: abs(v - 1) for t, v in values.items()}, lambda v: v <= limit, max, "{:.1%}",
                  f"within {limit:.0%}")


def judged(name, values, is_met, worst_of, form, target):
    """One row."""
    if not values:
        return {"name": name, "target": target, "figure": "not measured", "verdict": "-"}
    worst = worst_of(values, key=values.get)
    met = [t for t, v in values.items() if is_met(v)]
    middle = statistics.median(values.values())
    figure = form.format(values[worst]) if len(values) == 1 else \
        f"{form.format(middle)}; worst {form.format(values[worst])} ({worst})"
    verdict = "met" if len(met) == len(values) else "missed" if not met else f"met on {len(met)} of {len(values)}"
    return {"name": name, "target": target, "figure": figure, "verdict": verdict, "values": values}


def cost_goals(figures):
    """What we take from the target and the machine."""
    yield at_most("recorder CPU / perf 32K", ratios(figures, "programs", "rec", "perf 32K"), 1 / 10, text="1/10")
    yield at_most("recorder CPU / samply", ratios(figures, "programs", "rec", "samply"), 1 / 4, text="1/4")
    start = figures.get("start", {}).get("table", {})
    yield at_most("launched target starts later by, ms", {"start": start["cprofiler"]} if start else {}, 20, "{:.1f}")
    for peer in ("perf 8K", "perf 32K", "samply", "bcc profile", "gdb"):
        rss = ratios(figures, "programs", "rss", peer)
        if rss:
            yield at_most(f"peak RSS / {peer}", rss, 1 / 2, text="1/2")
    yield at_most("peak RSS / perf 32K at 999 Hz", ratios(figures, "fast", "rss", "perf 32K"), 1 / 8, text="1/8")
    slow = columns(figures, "programs", "cprofiler", "cpu")
    yield at_most("target's CPU, 99 Hz, CPU-bound", {t: v for t, v in slow.items() if t in CPU_BOUND}, 1.01)
    yield at_most("target's CPU, 99 Hz, ping-pong", {t: v for t, v in slow.items() if t == "pingpong"}, 1.03)


def finish_goals(figures):
    """From the target's end to the finished file."""
    yield at_most("finished file / samply's without names (no DWARF)",
                  ratios(figures, "programs", "file", "samply", WITHOUT_DWARF), 1, text="1")
    yield at_most("finished file / perf script --no-inline (DWARF)",
                  ratios(figures, "programs", "file", "perf 32K", WITH_DWARF), 1 / 4, text="1/4")
    table = figures.get("finish", {}).get("table", {})
    yield at_most("finished file / perf script", {
        t: row["cprofiler"]["seconds"] / row["perf script"]["seconds"] for t, row in table.items()
        if t in ("cc1plus", "node")}, 1 / 20, text="1/20")


def truth_goals(figures):
    """How good the answer is."""
    complete = columns(figures, "programs", "cprofiler", "compl")
    yield at_least("complete stacks", {t: v for t, v in complete.items() if t in ("sqlite", "gitpack", "node")}, 0.99,
                   "{:.1%}")
    yield at_least("complete stacks, deep recursion",
                   {t: v for t, v in complete.items() if t in ("recursion", "deeppython")}, 0.95, "{:.1%}")
    got = columns(figures, "programs", "cprofiler", "got")
    special = {"threads200": 0.03, "children": 0.05}
    yield within("samples taken / due", {t: v for t, v in got.items() if t not in special}, 0.02)
    for target, limit in special.items():
        yield within(f"samples taken / due, {target}", {t: v for t, v in got.items() if t == target}, limit)


def stage_goals(figures):
    """Attach, unwinding, names."""
    attach = figures.get("attach", {}).get("table", {})
    row = attach.get(1000) or attach.get("1000") or {}
    ours = row.get("cprofiler", {})
    yield at_most("attach to 1000 threads, s", {"attach": ours["seconds"]} if ours else {}, 1)
    # A machine on which the unprofiled thread stalls for longer than that has no say.
    stall = {str(n): max(0.0, r["cprofiler"]["gap"] - r["alone"]["gap"]) for n, r in attach.items()
             if "cprofiler" in r and r["alone"]["gap"] <= 1}
    yield at_most("target's stall beyond unprofiled, ms", stall, 1)
    unwind = figures.get("unwind", {}).get("table", {})
    warm = next((r["stack_ns"] for name, r in unwind.items() if "warm" in name), None)
    for peer, limit, text in (("libdw", 1 / 4, "1/4"), ("libunwind", 1 / 8, "1/8")):
        yield at_most(f"unwinding a stack / {peer}",
                      {n: warm / r["stack_ns"] for n, r in unwind.items() if peer in n}, limit, text=text)
    names = figures.get("symbolize", {}).get("table", {})
    for tool, limit, text in (("addr2line -fi", 1 / 10, "1/10"), ("llvm-symbolizer", 1, "1")):
        row = names.get(tool)
        yield at_most(f"names with inlined functions / {tool}",
                      {tool: 1 / row["ratio"]} if isinstance(row, dict) else {}, limit, text=text)


def heap_goals(figures):
    """What a pair of malloc and free costs more when each of the two is a breakpoint."""
    table = figures.get("heap", {}).get("table", {})
    pairs = {int(n): rows for n, rows in table.get("pairs", {}).items()}
    ours = {n: rows["cprofiler -p"]["added"] for n, rows in pairs.items() if "cprofiler -p" in rows}
    paced = {f"{n} threads": rows["cprofiler -p"]["paced"] / rows["perf uprobe -p"]["paced"] for n, rows in pairs.items()
             if {"cprofiler -p", "perf uprobe -p"} <= set(rows)}
    yield at_most("heap: paced pair / perf uprobe on malloc", paced, 0.9)
    yield at_most("heap: pair on 64 threads / on one", {"64": ours[64] / ours[1]} if {1, 64} <= set(ours) else {},
                  1.3)
    detach = pairs.get(64, {}).get("cprofiler -p", {})
    yield at_most("heap: detach from 64 threads, s", {"64": detach["detach_s"]} if "detach_s" in detach else {}, 1)
    sites = table.get("sites", {})
    yield at_most("heap: pair, slid sites / entries, jemalloc", {"": sites["ratio"]} if sites else {}, 1 / 4,
                  text="1/4")


def judge(figures):
    """All rows, for the JSON file."""
    return [row for part in (cost_goals, finish_goals, truth_goals, stage_goals, heap_goals) for row in part(figures)]


def show(report):
    """Prints the closing table."""
    report.line("\ntargets: the median over the programs, the worst of them; every program has to meet it")
    for row in report.figures["goals"]:
        report.line(f"{row['name']:<52}{row['target']:<14}{row['figure']:<38}{row['verdict']}")
