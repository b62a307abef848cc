"""What a step costs: ours beside the peers of images.py, one after another, in turns.

One epoch of 50 steps on one core, the statistics at the end included; every method once
in each of several rounds, which start with another method each, after a first training
that is not counted.
"""

import time

import images
import torch
from _common import arguments, save

CASES = [images.Case("mnist", 64, 50), images.Case("cifar10", 64, 50)]


def seconds(method, case, X, seed):
    """Train once."""
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
        seconds(images.OURS, case, X, 0)
        for seed in range(args.seeds):
            methods = [images.OURS, *images.PEERS]
            for method in methods[seed:] + methods[:seed]:
                row = {"data": case.data, "method": method, "seed": seed}
                rows.append(row | {"seconds": seconds(method, case, X, seed)})
                print(rows[-1], flush=True)
    save("image_time", rows)


if __name__ == "__main__":
    main()
