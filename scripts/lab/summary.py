#!/usr/bin/env python3
"""The last table of bench.sh: latencies side by side as ratios, from the harness's JSON reports.

    summary.py DIRECTORY

Fails where a ratio is far beyond what the project promises: the machine is too noisy for more.
"""

import json
import statistics
import sys
from pathlib import Path

QUANTILES = ("p50_ns", "p99_ns", "p999_ns")


def median(rows):
    """Medians over the rounds."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def results(directory, name):
    """The results of one report: label without its round, latencies and rate."""
    report = json.loads((directory / f"{name}.json").read_text())
    found = {}
    for result in report["results"]:
        row = {key: result["latency"][key] for key in QUANTILES} | {"rate": result["rate_achieved"]}
        found.setdefault(result["label"].split(" #")[0], []).append(row)
    return {label: median(rows) for label, rows in found.items()}


def rounds(directory, prefix):
    """Medians over the reports of that prefix."""
    names = sorted(path.stem for path in directory.glob(f"{prefix}-*.json"))
    return median([next(iter(results(directory, name).values())) for name in names])


def main(directory):
    raw, spinning = rounds(directory, "floor"), rounds(directory, "spinning")
    one, valkey, sixteen = (results(directory, name) for name in ("one", "valkey-one", "sixteen"))
    handover = next(iter(results(directory, "handover").values()))
    # What, against what, the two, and how far p50 and the rate may be off before it is a fault.
    lines = [
        ("spinning server, GET and SET", "raw ping-pong", spinning, raw, 6.0, None),
        ("RDMA, 1 connection", "TCP", one["tercel-rdma"], one["tercel-tcp"], None, None),
        ("RDMA, 1 connection", "Valkey over RDMA", valkey["tercel-rdma"], valkey["valkey-rdma"], 1.5, None),
        ("RDMA, 16 connections, pipeline 16", "Valkey over RDMA", sixteen["tercel-rdma"], sixteen["valkey-rdma"], None, 0.8),
    ]
    print("\n| Tercel | against | p50 | ratio | p99 | ratio | p999 | ratio | requests a second | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    bad = []
    for what, other, ours, theirs, p50_max, rate_min in lines:
        cells = [f"{ours[key] / 1000:.0f} us | {ours[key] / theirs[key]:.2f}" for key in QUANTILES]
        cells.append(f"{ours['rate']:.0f} | {ours['rate'] / theirs['rate']:.2f}")
        print(f"| {what} | {other} | {' | '.join(cells)} |")
        if p50_max and ours["p50_ns"] > p50_max * theirs["p50_ns"]:
            bad.append(f"{what}: p50 is more than {p50_max} times that of {other}")
        if rate_min and ours["rate"] < rate_min * theirs["rate"]:
            bad.append(f"{what}: the rate is below {rate_min} times that of {other}")
    step = handover["p999_ns"] / handover["p99_ns"]
    print(f"\nSETs of 1 KiB, windows of 1 MiB: p99 {handover['p99_ns'] / 1000:.0f} us, p999 {handover['p999_ns'] / 1000:.0f} us, {step:.2f} times p99")
    for line in bad:
        print(f"summary.py: {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
