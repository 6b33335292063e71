"""The report on null diagnostics."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crt.inputs import CRTInputs
from crt.null.diagnostics import NullDiagnostics
from crt.resume import inputs_digest
from fatescreen.report.blocks import Page
from fatescreen.report.glossary import NULL, glossary_section
from fatescreen.report.inline_svg import page_style
from fatescreen.report.record import FOOTER, own_settings, settings_section, warnings_of
from fatescreen.report.render import render
from fatescreen.report.sections.crt_input import input_section
from fatescreen.report.sections.null import NULL_FILES, curves_section, units_section, verdict_blocks


@page_style()
def null_report(*, inputs: CRTInputs, found: NullDiagnostics, null: np.ndarray | None, record: Mapping[str, Any]) -> str:
    """The report on null diagnostics, as HTML text that needs no other file.

    Parameters
    ----------
    inputs
        Result of `prepare_crt_inputs`.
    found
        Result of `diagnose_null`.
    null
        p-values of resamples against one another (`compute_ntc_group_null_pvals_parallel`), or None.
    record
        Record of the run with `command`, `options`, `versions` and `warnings`; `files`, if given, are the names of the files in the folder of the page.

    Returns
    -------
    str
        The page; save it as UTF-8.

    Examples
    --------
    >>> from crt import UnitSettings, diagnose_null, make_sceptre_style_synth, null_report, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=1)
    >>> record = {"command": "notebook", "options": {"B": 255}, "versions": {}, "warnings": []}
    >>> page = null_report(inputs=inputs, found=found, null=None, record=record)
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    genes = found.units[found.units["unit_type"] == "real_gene"].set_index("unit_id")
    page = Page(
        run="null diagnostics",
        title="Calibration of the null distribution",
        summary=verdict_blocks(found),
        warnings=warnings_of(record),
        sections=[
            input_section(inputs, genes),
            curves_section(found, null),
            units_section(found),
            settings_section(record, fingerprint=inputs_digest(inputs), files=NULL_FILES, also=own_settings(found.summary["settings"], record)),
            glossary_section(*NULL),
        ],
        footer=FOOTER,
    )
    return render(page)
