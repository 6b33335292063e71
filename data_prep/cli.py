"""simulate-screen."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from data_prep.console import run
from data_prep.errors import InputError
from data_prep.files import atomic, writable_folder
from data_prep.synthetic import ScreenDesign, simulate_fate_screen


def simulate_screen(
    out: Annotated[Path, typer.Option(help="folder for screen.h5ad, guide_map.csv, truth.csv")],
    cells: Annotated[int, typer.Option(help="number of cells")] = 20_000,
    genes: Annotated[int, typer.Option(help="number of target genes")] = 100,
    guides_per_gene: Annotated[str, typer.Option(help="guides of each gene: a number, or low-high")] = "6",
    ntc_guides: Annotated[int, typer.Option(help="number of non-targeting guides")] = 30,
    days: Annotated[int, typer.Option(help="number of days")] = 4,
    reps: Annotated[int, typer.Option(help="number of replicates")] = 2,
    fates: Annotated[str, typer.Option(help="names of the fates, the reference first")] = "EC,MES,NEU",
    moi: Annotated[float, typer.Option(help="mean guides in a cell")] = 5.5,
    concentration: Annotated[float, typer.Option(help="Dirichlet precision of the fate probabilities")] = 50.0,
    one_hot: Annotated[bool, typer.Option("--one-hot", help="one fate for each cell in place of probabilities")] = False,
    effects: Annotated[Literal["daylocal", "model"], typer.Option(help="effects on single days, or the model's random walk")] = "daylocal",
    seed: Annotated[int, typer.Option(help="of the random draws")] = 0,
) -> None:
    """Simulate a pooled CRISPR screen over days, with its truth."""
    design = ScreenDesign(
        n_cells=cells,
        n_genes=genes,
        guides_per_gene=_guides(guides_per_gene),
        n_ntc_guides=ntc_guides,
        n_days=days,
        n_reps=reps,
        fates=tuple(name.strip() for name in fates.split(",")),
        moi=moi,
        concentration=None if one_hot else concentration,
        effects=effects,
    )
    writable_folder(out)
    screen = simulate_fate_screen(design, seed=seed)
    with atomic(out / "guide_map.csv") as path:
        screen.guide_map.to_csv(path, index=False)
    with atomic(out / "truth.csv") as path:
        screen.truth.to_csv(path, index=False, float_format="%.10g")
    with atomic(out / "screen.h5ad") as path:
        screen.adata.write_h5ad(path)
    print(f"{out / 'screen.h5ad'}: {cells:,} cells, {genes} genes, {screen.guide_map.shape[0]} guides; truth in {out / 'truth.csv'}")


def _guides(text: str) -> int | tuple[int, int]:
    try:
        ends = [int(part) for part in text.split("-")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or ends != sorted(ends):
        raise InputError(f"--guides-per-gene is {text!r}; give a number (6) or a range (1-12).")
    return ends[0] if len(ends) == 1 else (ends[0], ends[1])


def main() -> None:
    """simulate-screen."""
    run(simulate_screen)
