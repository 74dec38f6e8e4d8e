#!/usr/bin/env python3
"""Simulates a run in parts, and prints the table of docs/scale.md.

    benches/scale.py [--seed N]

Each node reads, casts and writes its part as one stream, at the slowest of: its cores, its network in each direction, and an
equal share of what the store of the source and that of the output do for all nodes at work. Nodes differ in speed, parts
in size as the deal allows it, and in one case a node dies halfway and its part is made anew. Then one node joins: it reads the
output once, and copies the shards that were cut.
"""
import argparse, random, statistics

GB = 1e9
SOURCE, OUTPUT, SHARDS = 2000 * GB, 1030 * GB, 200
SHRINK = OUTPUT / SOURCE
CORES = 20 * GB  # What 16 cores cast in a second.
# What a node takes for each request to a bucket is hidden by as many of them as fill its network.
PLACES = [
    ("parallel file system: R 100, W 50, n 11 GB/s", 100 * GB, 50 * GB, 11 * GB, CORES),
    ("smaller parallel file system: R 20, W 10, n 11 GB/s", 20 * GB, 10 * GB, 11 * GB, CORES),
    ("one NFS server: R 2, W 1, n 2 GB/s", 2 * GB, 1 * GB, 2 * GB, CORES),
    ("from a bucket (R 400, n 3 GB/s) to a file system (W 50 GB/s)", 400 * GB, 50 * GB, 3 * GB, CORES),
    ("R 100, W 50, n 11 GB/s, and a scheme of 0.5 GB/s a node", 100 * GB, 50 * GB, 11 * GB, 0.5 * GB),
]


def shares(nodes, dice):
    """Bytes of the source in each part: none more than 1.03 times the mean, as the deal has it."""
    sizes = [dice.uniform(0.97, 1.03) for _ in range(nodes)]
    return [SOURCE * size / sum(sizes) for size in sizes]


def parts(nodes, read, write, network, cores, dice, dies):
    """Seconds until all parts are made."""
    speed = [min(1.0, dice.gauss(0.97, 0.03)) for _ in range(nodes)]
    left = dict(enumerate(shares(nodes, dice)))
    whole, now = dict(left), 0.0
    dying, redo = (0, 0.0) if dies else (None, None)
    while left:
        share_of_read, share_of_write = read / len(left), write / len(left) / SHRINK
        rate = {
            node: min(speed[node] * min(cores, network, network / SHRINK), share_of_read, share_of_write) for node in left
        }
        until = {node: left[node] / rate[node] for node in left}
        if dying in left:
            # It dies when half of its part is made.
            until[dying] = max(0.0, left[dying] - whole[dying] / 2) / rate[dying]
        first = min(until, key=until.get)
        step = until[first]
        now += step
        for node in left:
            left[node] -= rate[node] * step
        if first == dying:
            # The engine gives the part to a node that it has in reserve.
            left[dying], dying = whole[dying], None
            continue
        del left[first]
    return now


def join(nodes, read, write, network):
    """Seconds of one node that reads what the parts have made, and copies the shards that were cut."""
    cut = 0 if SHARDS % nodes == 0 else SHARDS % nodes * OUTPUT / SHARDS
    return OUTPUT / min(read, network) + cut / min(write, network)


def plain(read, write, network, cores):
    return max(SOURCE / min(read, network, cores), OUTPUT / min(write, network))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    dice = random.Random(options.parse_args().seed)
    print("| | 1 node, plain | 8 nodes: parts + join | 64 nodes: parts + join | 64 nodes, one of which dies |")
    print("|---|---|---|---|---|")
    for name, read, write, network, cores in PLACES:
        # The output lies on a file system that reads at least as fast as it writes.
        joined = read if "bucket" not in name else 2 * write
        made = lambda nodes, dies: statistics.median(
            parts(nodes, read, write, network, cores, dice, dies) for _ in range(101)
        )
        columns = [f"{plain(read, write, network, cores):.0f} s"]
        columns += [f"{made(nodes, False):.0f} + {join(nodes, joined, write, network):.0f} s" for nodes in (8, 64)]
        columns.append(f"{made(64, True):.0f} + {join(64, joined, write, network):.0f} s")
        print(f"| {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
