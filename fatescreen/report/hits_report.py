"""The report on hits."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.errors import first_few
from fatescreen.report.blocks import Block, Notice, Page
from fatescreen.report.glossary import HITS, glossary_section
from fatescreen.report.inline_svg import page_style
from fatescreen.report.record import FOOTER, settings_section, warnings_of
from fatescreen.report.render import render
from fatescreen.report.sections.hits import guides_section, hits_section, prior_section
from hierarchy.mash.hits import Hits

FILES = {
    "hits.csv": "genes, strongest first: days, pattern, lfsr, agreement of guides",
    "mash_gene.csv": "estimate, SE, posterior mean, SD and lfsr of each gene and day",
    "mash_guide.csv": "the same for each guide",
    "mash_weights.csv": "weight of each covariance in the priors of genes and guides",
    "hits_scores.csv": "comparison with the truth of a simulation",
    "run.json": "settings, versions, weights, log likelihoods",
}


@page_style()
def hits_report(hits: Sequence[Hits], record: Mapping[str, Any]) -> str:
    """The report on hits, as HTML text that needs no other file.

    Parameters
    ----------
    hits
        Results of `call_hits`, one for each contrast; the first has the forest plots.
    record
        Record of the run with `command`, `options`, `versions` and `warnings`; `files`, if given, are the names of the files in the folder of the page.

    Returns
    -------
    str
        The page; save it as UTF-8.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=20, n_days=2), seed=0).adata
    >>> from hierarchy import call_hits, fit, hit_estimates, hits_report
    >>> hits = call_hits(hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "MES"), covariances="canonical")
    >>> page = hits_report([hits], {"command": "notebook", "options": {}, "versions": {}, "warnings": []})
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    digest = hashlib.sha256(b"".join(part.tobytes() for own in hits for part in (own.estimates.betahat, own.estimates.covariance)))
    page = Page(
        run="hits by mash",
        title=f"Genes with effects on {', '.join(own.estimates.contrast.replace(':', ' against ', 1) for own in hits)}",
        summary=[_summary(own) for own in hits],
        warnings=warnings_of(record),
        sections=[
            hits_section(hits),
            guides_section(hits[0]),
            prior_section(hits),
            settings_section(record, fingerprint=digest.hexdigest(), files=FILES),
            glossary_section(*HITS),
        ],
        footer=FOOTER,
    )
    return render(page)


def _summary(own: Hits) -> Block:
    called = own.table[own.called]
    title = f"{own.estimates.contrast}: {len(called):,} of {len(own.table):,} genes are hits (lfsr below 0.05 on at least one day)."
    if called.empty:
        return Notice(tone="plain", title=title, text=["The table lists all genes, strongest first."])
    single = called[called["lfsr_leave_one_guide_out"] >= 0.05]
    lines = [
        f"Of these, about {called['min_lfsr'].sum():.2g} are expected to have the wrong sign or no effect on their best day (sum of the lfsr).",
        "Patterns: " + ", ".join(f"{n:,} {name}" for name, n in called["pattern"].value_counts().items()) + ".",
    ]
    if len(single):
        lines.append(f"{len(single):,} depend on a single guide (lfsr of 0.05 or more when one guide is left out): {first_few(single['gene'], 8)}.")
    return Notice(tone="good", title=title, text=lines)
