"""Memory and time of fit and transform on data that stay on disk.

Each form of the data is measured in a process of its own.  Reported is the most
anonymous memory of that process, less its memory before ``fit``, when everything was
imported.  Pages of files are not counted: the system drops them when it needs memory.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks._common import save, shown

MIB = 2**20
ROWS_AT_ONCE = 10_000


def held():
    """Return the anonymous memory of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / MIB


class Peak:
    """Context that measures seconds and the growth of memory within it.

    After the block, ``seconds`` and ``beyond``, in MiB, hold the results.  A thread
    samples the memory of this process.
    """

    def __enter__(self):
        self.start = self.most = held()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        self.began = time.perf_counter()
        return self

    def _sample(self):
        while not self.is_over.wait(0.02):
            self.most = max(self.most, held())

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.is_over.set()
        self.thread.join()
        self.beyond = max(self.most, held()) - self.start


def chunks(shape):
    """Yield (slice, float32 rows): parts of a random table with clusters."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, shape[1]))
    for start in range(0, shape[0], ROWS_AT_ONCE):
        n = min(ROWS_AT_ONCE, shape[0] - start)
        rows = centres[rng.integers(50, size=n)] + rng.normal(size=(n, shape[1]))
        yield slice(start, start + n), rows.astype(np.float32)


def memory_map(folder, shape):
    """Write the table as a file of NumPy, unless it is there; return a memory map."""
    path = folder / "rows.npy"
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for part, values in chunks(shape):
            rows[part] = values
    return np.load(path, mmap_mode="r")


def hdf5(folder, shape):
    """Write the table to HDF5 in chunks of rows."""
    import h5py

    path = folder / "rows.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            rows = file.create_dataset("rows", shape, "f4", chunks=(1000, shape[1]))
            for part, values in chunks(shape):
                rows[part] = values
    return h5py.File(path)["rows"]


class Items:
    """The mapped table as a dataset that is read row by row."""

    def __init__(self, folder, shape):
        self.rows = memory_map(folder, shape)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


FORMS = {"memory map": memory_map, "HDF5": hdf5, "row by row": Items}


def measure(form, folder, shape, params, results):
    """Fit and transform in this process; put memory and seconds into ``results``."""
    from skdim import NoiseInjectedDIM

    warnings.simplefilter("ignore")
    X = FORMS[form](Path(folder), shape)
    dim = NoiseInjectedDIM(random_state=0, **params)
    dim.fit(np.asarray(X[:1000])).transform(np.asarray(X[:1000]))
    with Peak() as fit:
        dim.fit(X)
    with Peak() as transform:
        Z = dim.transform(X)
    results.put(
        {
            "fit, MiB": fit.beyond,
            "transform, MiB": transform.beyond,
            "output, MiB": Z.nbytes / MIB,
            "fit, s": fit.seconds,
            "transform, s": transform.seconds,
        }
    )


def main():
    """Measure all forms of data with and without views, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=list(FORMS))
    args = parser.parse_args()
    shape, context, rows = (args.rows, 100), multiprocessing.get_context("spawn"), []
    with tempfile.TemporaryDirectory() as folder:
        for form in args.only:
            FORMS[form](Path(folder), shape)
            for params in ({}, {"views": None}):
                results = context.Queue()
                given = (form, folder, shape, params, results)
                process = context.Process(target=measure, args=given)
                process.start()
                row = {"form": form, **({"views": "neighbors"} | params)}
                rows.append(row | results.get())
                process.join()
                print(shown(rows[-1]), flush=True)
    data = f"{4 * shape[0] * shape[1] / MIB:.0f} MiB"
    save("speed/memory", rows, data=data)


if __name__ == "__main__":
    main()
