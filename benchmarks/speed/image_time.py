"""Seconds of one epoch of images: skdim beside the peers of benchmarks.images.

An epoch has 50 steps on one core; calibration is included.  Every method is timed once
per round, and each round starts with another method.  A first training is not counted.
"""

import time

import torch

from benchmarks._common import arguments, save, shown
from benchmarks.images import _training as images

CASES = [images.Case("mnist", 64, 50), images.Case("cifar10", 64, 50)]


def seconds(method, case, X, seed):
    """Return the seconds that one training of a method takes."""
    is_ours = method == images.OURS
    setting = {} if is_ours else images.PEERS[method][1][0]
    start = time.perf_counter()
    images.trained(method, setting, case, X, seed)
    return time.perf_counter() - start


def main():
    """Time all methods and save the rows."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        X, *_ = images.load(args.data, case.data, "validation")
        seconds(images.OURS, case, X, 0)  # warm up
        for seed in range(args.seeds):
            methods = [images.OURS, *images.PEERS]
            for method in methods[seed:] + methods[:seed]:
                row = {"data": case.data, "method": method, "seed": seed}
                rows.append(row | {"seconds": seconds(method, case, X, seed)})
                print(shown(rows[-1]), flush=True)
    save("speed/image_time", rows)


if __name__ == "__main__":
    main()
