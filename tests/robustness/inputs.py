"""What a case is made of: small whole inputs to be spoilt, a folder that holds an earlier run, and the case itself."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad

from crt import make_sceptre_style_synth
from data_prep import ScreenDesign, simulate_fate_screen
from tests.commands import command

SMALL = ScreenDesign(n_cells=200, n_genes=4, guides_per_gene=(1, 3), n_ntc_guides=3, n_days=2, moi=3.0)
FEW = ("--n-resamples", 19)
GROUPS = (*FEW, "--group-size", 2, "--n-ensemble", 1)


@dataclass(frozen=True)
class Whole:
    """Inputs with nothing wrong, and a finished run of each command on them; read-only."""

    fates: ad.AnnData
    usage: ad.AnnData
    files: Path

    @classmethod
    def at(cls, files: Path) -> "Whole":
        """Simulate the inputs and run the commands."""
        simulated = simulate_fate_screen(SMALL, seed=1)
        usage = make_sceptre_style_synth(N=200, K=3, n_target_genes=4, guides_per_gene=2, ntc_frac_guides=0.4, moi_mean=3.0, seed=1)
        simulated.adata.write_h5ad(files / "fates.h5ad")
        usage.write_h5ad(files / "usage.h5ad")
        simulated.truth.to_csv(files / "truth.csv", index=False)
        simulated.guide_map.to_csv(files / "map.csv", index=False)
        whole = cls(simulated.adata, usage, files)
        for name in ("fit-hierarchy", "run-crt", "diagnose-null", "score-daywise", "simulate-screen"):
            done = command(name, *whole.words(name), "--out", files / name)
            assert done.code == 0, done.err
        return whole

    def words(self, name: str) -> list[object]:
        """A right command line, but for --out."""
        usage = self.files / "usage.h5ad"
        right: dict[str, list[object]] = {
            "fit-hierarchy": [self.files / "fates.h5ad", "--no-report"],
            "run-crt": [usage, *FEW, "--no-report"],
            "diagnose-null": [usage, *GROUPS, "--no-report"],
            "score-daywise": [self.files / "fit-hierarchy" / "gene_daywise_for_mash.csv", self.files / "truth.csv"],
            "simulate-screen": ["--cells", 20],
        }
        return right[name]


class Desk:
    """A folder for one case: `given` for its inputs, `out` with the results of an earlier run."""

    def __init__(self, whole: Whole, folder: Path, name: str):
        """Lay out the desk for the command `name`."""
        self.whole, self.name = whole, name
        self.given, self.out = folder / "given", folder / "out"
        self.given.mkdir()
        shutil.copytree(whole.files / name, self.out)

    def screen(self, change: Callable[[ad.AnnData], object], suffix: str = ".h5ad") -> Path:
        """The command's screen, spoilt by `change`, as a file."""
        adata = (self.whole.fates if self.name == "fit-hierarchy" else self.whole.usage).copy()
        adata = found if isinstance(found := change(adata), ad.AnnData) else adata
        path = self.given / f"screen{suffix}"
        adata.write_zarr(path) if suffix == ".zarr" else adata.write_h5ad(path)
        return path

    def file(self, name: str, content: bytes | str) -> Path:
        """A file of its own making."""
        path = self.given / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def right(self) -> list[object]:
        """A right command line, but for --out."""
        return self.whole.words(self.name)


@dataclass(frozen=True)
class Case:
    """A wrong input: what the command is given (but for --out, unless `words` says it), and what its message must hold."""

    command: str
    name: str
    words: Callable[[Desk], Sequence[object]]
    said: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.command}: {self.name}"


def spoilt(name: str, change: Callable[[ad.AnnData], object], *said: str, by: str = "fit-hierarchy", options: Sequence[object] = ()) -> Case:
    """A screen with one thing wrong."""
    return Case(by, name, lambda desk: [desk.screen(change), *desk.right()[1:], *options], said)


def told(name: str, options: Sequence[object], *said: str, by: str = "fit-hierarchy") -> Case:
    """A right screen with wrong options."""
    return Case(by, name, lambda desk: [*desk.right(), *options], said)


def config(name: str, content: bytes | str, *said: str, by: str = "fit-hierarchy") -> Case:
    """A right screen with a wrong config file."""
    return Case(by, name, lambda desk: [*desk.right(), "--config", desk.file("c.yaml", content)], ("c.yaml", *said))
