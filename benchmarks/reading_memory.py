"""Memory and time of reading a million cells. Each file is written once and read in its own process.

python benchmarks/reading_memory.py                     1,000,000 cells × 60 programs, 10 covariates, 1,000 guides at MOI 5.5; about 10 GB under TMPDIR
python benchmarks/reading_memory.py 100000 h5ad text    another number of cells; only these kinds of input

The peak is that of the reading process (VmHWM in /proc, Linux only); a separate column gives the part due to imported packages. "result" is the memory of
the arrays that are returned: rows, columns and guides of `CRTInputs`, or the tensors of `FateData`, with cell names and the covariate table.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import crt_common

PROGRAMS, COVARIATES, GUIDES, PER_GENE, MOI, GENES = 60, 10, 1000, 5, 5.5, 400
DENSE_GUIDES = 200
KINDS = ("h5ad", "float64", "zarr", "h5mu", "dense", "text")
BLOCK = 50_000


def memory(what: str) -> float:
    """An entry of /proc/self/status in GiB: VmHWM is the peak, VmRSS the current value. getrusage would include the parent process before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 2**20
    raise RuntimeError(what)


def parts(n: int, n_guides: int, dtype):
    """A screen without X that both commands can read."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    cells = pd.Index([f"AAACCTGAGAAA{i:07d}-1" for i in range(n)])
    usage = np.empty((n, PROGRAMS), dtype)
    for first in range(0, n, BLOCK):
        drawn = rng.standard_gamma(0.3, size=(min(BLOCK, n - first), PROGRAMS), dtype=np.float32).astype(dtype) + dtype(1e-9)
        usage[first : first + len(drawn)] = drawn / drawn.sum(1, keepdims=True)
    carried = sp.random(n, n_guides, density=MOI / n_guides, format="csr", random_state=rng, dtype=np.float32)
    carried.data[:] = 1
    batch = pd.Categorical(np.array([f"batch{b}" for b in range(8)])[rng.integers(0, 8, n)])
    covar = pd.DataFrame({f"covariate_{j}": rng.normal(size=n) for j in range(COVARIATES - 1)}, index=cells).assign(batch=batch)
    names = [f"guide{g:04d}" for g in range(n_guides)]
    gene = ["non-targeting" if g < n_guides // 10 else f"GENE{g // PER_GENE:04d}" for g in range(n_guides)]
    fates = rng.dirichlet([2, 3, 4], n)
    obs = pd.DataFrame({"day": pd.Categorical(np.array(["d0", "d2", "d4"])[rng.integers(0, 3, n)]), "rep": batch}, index=cells)
    made = ad.AnnData(obs=obs, var=pd.DataFrame(index=[f"gene{j}" for j in range(GENES)]))
    made.obsm["cnmf_usage"], made.obsm["covar"], made.obsm["guide"] = usage, covar, carried
    made.obsm["lineages_fwd"] = pd.DataFrame(fates, index=cells, columns=["EC", "MES", "NEU"])
    made.uns["guide_names"], made.uns["guide2gene"] = names, dict(zip(names, gene, strict=True))
    return made


def add_X(group, n: int) -> None:
    """A dense X of expression, written by blocks."""
    import numpy as np

    block = np.random.default_rng(1).poisson(1.0, size=(BLOCK, GENES)).astype(np.float32)
    kwargs = {"chunks": (BLOCK // 10, GENES)} if hasattr(group, "store") else {}
    X = (group.create_array if hasattr(group, "create_array") else group.create_dataset)("X", shape=(n, GENES), dtype="float32", **kwargs)
    for first in range(0, n, BLOCK):
        X[first : first + BLOCK] = block[: min(BLOCK, n - first)]
    X.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def write(kind: str, n: int, folder: Path) -> None:
    import h5py
    import numpy as np
    import pandas as pd

    warnings.simplefilter("ignore")
    made = parts(n, DENSE_GUIDES if kind == "dense" else GUIDES, np.float64 if kind == "float64" else np.float32)
    path = folder / ("screen.zarr" if kind == "zarr" else "screen.h5mu" if kind == "h5mu" else "screen.h5ad")
    if kind == "zarr":
        import zarr

        made.write_zarr(path)
        group = zarr.open_group(path, mode="a")
        if "X" in group:
            del group["X"]
        return add_X(group, n)
    place = ""
    if kind == "h5mu":
        import anndata as ad
        import mudata

        part = ad.AnnData(X=made.obsm.pop("guide"), obs=pd.DataFrame(index=made.obs_names), var=pd.DataFrame(index=made.uns.pop("guide_names")))
        mudata.MuData({"rna": made, "guide": part}).write(path)
        place = "mod/rna"
    else:
        if kind == "dense":
            made.obsm["guide"] = made.obsm["guide"].toarray()
        if kind == "text":
            frame = pd.DataFrame(made.obsm.pop("cnmf_usage"), index=made.obs_names, columns=range(1, PROGRAMS + 1))
            frame.to_csv(folder / "run.usages.k_60.dt_0_1.consensus.txt", sep="\t")
            calls = made.obsm.pop("guide")
            names = np.array(made.uns.pop("guide_names"))
            with (folder / "protospacer_calls_per_cell.csv").open("w") as file:
                file.write("cell_barcode,num_features,feature_call,num_umis\n")
                for i, cell in enumerate(made.obs_names):
                    mine = names[calls.indices[calls.indptr[i] : calls.indptr[i + 1]]]
                    if mine.size:
                        file.write(f"{cell},{mine.size},{'|'.join(mine)},{'|'.join(['9'] * mine.size)}\n")
        made.write_h5ad(path)
    with h5py.File(path, "a") as file:
        group = file[place] if place else file
        if "X" in group:
            del group["X"]
        add_X(group, n)


def read(kind: str, command: str, folder: Path) -> None:
    """Read in this process and print time and memory."""
    from crt import prepare_crt_inputs
    from data_prep import ScreenKeys, build_fate_data, read_screen

    warnings.simplefilter("ignore")
    source = next(folder.glob("screen.*"))
    guides = folder / "protospacer_calls_per_cell.csv" if kind == "text" else None
    before, start = memory("VmRSS"), time.perf_counter()
    if command == "crt":
        usage = folder / "run.usages.k_60.dt_0_1.consensus.txt" if kind == "text" else None
        found = prepare_crt_inputs(source, guide_assignment_key="guide", guides=guides, usage=usage)
        arrays = [found.rows, found.columns, found.guides.data, found.guides.indices, found.guides.indptr, found.all_cells, found.ntc_cells]
        size = sum(a.nbytes for a in arrays) + int(found.covar_df_raw.memory_usage().sum()) + sum(map(sys.getsizeof, found.cells))
    else:
        found = build_fate_data(read_screen(source, guides=guides, keys=ScreenKeys(guide="guide", rep="batch")), ref_fate="EC")
        size = sum(t.nbytes for t in found.tensors().values()) + sum(map(sys.getsizeof, found.cells))
    took = time.perf_counter() - start
    print(json.dumps({"seconds": took, "before": before, "peak": memory("VmHWM"), "after": memory("VmRSS"), "size": size / 2**30}))


def own_process(*args: object) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def main(n: int, kinds: list[str]) -> None:
    rows = []
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="reading_memory_") as name:
            folder = Path(name)
            own_process("--write", kind, n, folder)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**30
            for command in ("crt", "hierarchy"):
                took = json.loads(own_process("--read", kind, command, folder))
                above = took["peak"] - took["before"]
                values = (took["seconds"], size, took["before"], took["peak"], took["size"], above / took["size"])
                rows.append([kind, command, f"{values[0]:.1f}", *(f"{v:.2f}" for v in values[1:])])
    header = ["input", "command", "seconds", "files, GiB", "packages, GiB", "peak, GiB", "result, GiB", "(peak − packages) / result"]
    title = f"{n:,} cells, {PROGRAMS} programs, {COVARIATES} covariates, {GUIDES} guides ({DENSE_GUIDES} in dense), X of {GENES} genes"
    crt_common.table(title, header, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    elif sys.argv[1:2] == ["--read"]:
        read(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        given = sys.argv[1:]
        cells = int(given.pop(0)) if given and given[0].isdigit() else 1_000_000
        if unknown := set(given) - set(KINDS):
            sys.exit(f"no such kinds of input: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        main(cells, given or list(KINDS))
