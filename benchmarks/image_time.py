"""What a step costs: ours beside the peers of images.py, one after another, in turns.

One epoch of 50 steps on one core with nothing else running, the statistics at the end
included; every method once in each of several rounds.
"""

import time

import images
import torch
from _common import arguments, save

CASES = [images.Case("mnist", 64, 50), images.Case("cifar10", 64, 50)]


def main():
    """Time all methods and save the rows."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        X, *_ = images.load(args.data, case.data, "validation")
        for seed in range(args.seeds):
            for method in [images.OURS, *images.PEERS]:
                is_ours = method == images.OURS
                setting = {} if is_ours else images.PEERS[method][1][0]
                start = time.perf_counter()
                images.trained(method, setting, case, X, seed)
                seconds = time.perf_counter() - start
                rows.append(
                    {"data": case.data, "method": method, "seed": seed}
                    | {"seconds": seconds}
                )
                print(rows[-1], flush=True)
    save("image_time", rows)


if __name__ == "__main__":
    main()
