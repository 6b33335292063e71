"""What a case is made of: small valid inputs to corrupt, a folder with the results of an earlier run, and the case itself."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad

from crt import make_sceptre_style_synth
from data_prep import ScreenDesign, simulate_fate_screen
from tests.commands import command

SMALL = ScreenDesign(n_cells=200, n_genes=4, guides_per_gene=(1, 3), n_ntc_guides=3, n_days=2, moi=3.0)
FEW = ("--method", "resample", "--n-resamples", 19)
GROUPS = (*FEW, "--group-size", 2, "--n-ensemble", 1)


@dataclass(frozen=True)
class ValidInputs:
    """Valid inputs, and a finished run of each command on them; read-only."""

    fates: ad.AnnData
    usage: ad.AnnData
    files: Path

    @classmethod
    def create(cls, files: Path) -> "ValidInputs":
        """Simulate the inputs and run the commands."""
        simulated = simulate_fate_screen(SMALL, seed=1)
        usage = make_sceptre_style_synth(N=200, K=3, n_target_genes=4, guides_per_gene=2, ntc_frac_guides=0.4, moi_mean=3.0, seed=1)
        simulated.adata.write_h5ad(files / "fates.h5ad")
        usage.write_h5ad(files / "usage.h5ad")
        simulated.truth.to_csv(files / "truth.csv", index=False)
        simulated.guide_map.to_csv(files / "map.csv", index=False)
        valid_inputs = cls(simulated.adata, usage, files)
        for name in ("fit-hierarchy", "run-crt", "diagnose-null", "call-hits", "score-daywise", "simulate-screen"):
            done = command(name, *valid_inputs.arguments(name), "--out", files / name)
            assert done.code == 0, done.err
        return valid_inputs

    def arguments(self, name: str) -> list[object]:
        """A valid command line without --out."""
        usage = self.files / "usage.h5ad"
        right: dict[str, list[object]] = {
            "fit-hierarchy": [self.files / "fates.h5ad", "--no-report"],
            "run-crt": [usage, *FEW, "--no-report"],
            "diagnose-null": [usage, *GROUPS, "--no-report"],
            "call-hits": [self.files / "fit-hierarchy", "--no-report"],
            "score-daywise": [self.files / "fit-hierarchy" / "gene_daywise_for_mash.csv", self.files / "truth.csv"],
            "simulate-screen": ["--cells", 20],
        }
        return right[name]


class Workspace:
    """A folder for one case: `inputs` for its files, `out` with the results of an earlier run."""

    def __init__(self, valid_inputs: ValidInputs, folder: Path, name: str):
        """Create the folder for the command `name`."""
        self.valid_inputs, self.name = valid_inputs, name
        self.inputs, self.out = folder / "inputs", folder / "out"
        self.inputs.mkdir()
        shutil.copytree(valid_inputs.files / name, self.out)

    def screen(self, change: Callable[[ad.AnnData], object], suffix: str = ".h5ad") -> Path:
        """The command's screen, corrupted by `change`, as a file."""
        adata = (self.valid_inputs.fates if self.name == "fit-hierarchy" else self.valid_inputs.usage).copy()
        adata = found if isinstance(found := change(adata), ad.AnnData) else adata
        path = self.inputs / f"screen{suffix}"
        adata.write_zarr(path) if suffix == ".zarr" else adata.write_h5ad(path)
        return path

    def file(self, name: str, content: bytes | str) -> Path:
        """A file with this content."""
        path = self.inputs / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def valid_arguments(self) -> list[object]:
        """A valid command line without --out."""
        return self.valid_inputs.arguments(self.name)


@dataclass(frozen=True)
class Case:
    """An invalid input: the arguments of the command (--out is added if they lack it), and what its message must contain."""

    command: str
    name: str
    arguments: Callable[[Workspace], Sequence[object]]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.command}: {self.name}"


def corrupted(name: str, change: Callable[[ad.AnnData], object], *expected: str, by: str = "fit-hierarchy", options: Sequence[object] = ()) -> Case:
    """A screen with one error."""
    return Case(by, name, lambda workspace: [workspace.screen(change), *workspace.valid_arguments()[1:], *options], expected)


def with_options(name: str, options: Sequence[object], *expected: str, by: str = "fit-hierarchy") -> Case:
    """A valid screen with invalid options."""
    return Case(by, name, lambda workspace: [*workspace.valid_arguments(), *options], expected)


def config(name: str, content: bytes | str, *expected: str, by: str = "fit-hierarchy") -> Case:
    """A valid screen with an invalid config file."""
    return Case(by, name, lambda workspace: [*workspace.valid_arguments(), "--config", workspace.file("c.yaml", content)], ("c.yaml", *expected))
