"""Program usage and its centred log-ratios, and the simulator of screens with usage."""

import numpy as np
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.outcomes import LogRatios, PlainOutcomes, clr_usage
from data_prep.simulate.usage import make_sceptre_style_synth

CELLS = np.array(["a", "b", "c"], dtype=object)
USAGE = np.array([[0.2, 0.3, 0.5], [0.0, 0.4, 0.6], [0.1, 0.1, 0.8]])


def test_clr_by_hand():
    out = clr_usage(USAGE)
    floored = np.maximum(USAGE, np.quantile(USAGE[USAGE > 0], 1e-4))
    floored /= floored.sum(1, keepdims=True)
    np.testing.assert_allclose(out, np.log(floored) - np.log(floored).mean(1, keepdims=True))
    np.testing.assert_allclose(out.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(out[0], np.log([0.2, 0.3, 0.5]) - np.log([0.2, 0.3, 0.5]).mean())
    assert np.isfinite(out).all()


def test_percent_is_reported_and_scaled():
    with pytest.warns(ScreenWarning, match="percent"):
        out = clr_usage(100 * USAGE)
    np.testing.assert_allclose(out, clr_usage(USAGE))
    with pytest.warns(ScreenWarning, match="do not sum to 1"):
        np.testing.assert_allclose(clr_usage(2 * USAGE), out)


def test_usage_is_not_changed():
    usage = USAGE.copy()
    usage.flags.writeable = False
    clr_usage(usage)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, r"obsm\['u'\] is NaN or infinite in row 1 \(b\)"), (np.inf, "infinite"), (-0.1, r"negative in row 1 \(b\)")],
)
def test_bad_usage(value, message):
    usage = USAGE.copy()
    usage[1, 2] = value
    with pytest.raises(InputError, match=message):
        LogRatios.of(usage, CELLS, where="obsm['u']")


def test_other_errors():
    with pytest.raises(InputError, match="zero throughout in row 0"):
        LogRatios.of(np.array([[0.0, 0], [1, 0], [1, 0]]), CELLS, where="u")
    with pytest.raises(InputError, match="2 rows but the screen has 3"):
        PlainOutcomes.of(USAGE[:2], CELLS, where="u")
    with pytest.raises(InputError, match="one program"):
        clr_usage(USAGE[:, :1])
    with pytest.raises(InputError, match="eps_quantile"):
        clr_usage(USAGE, eps_quantile=1.0)
    with pytest.raises(InputError, match="not numeric"):
        PlainOutcomes.of(np.array([["x"]] * 3), CELLS, where="u")


def test_simulator():
    options = {"N": 400, "K": 6, "n_target_genes": 10, "guides_per_gene": 2, "n_effect_programs": 2, "frac_causal_genes": 0.3}
    first, again, other = (make_sceptre_style_synth(**options, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.obsm["cnmf_usage"], again.obsm["cnmf_usage"])
    assert (first.obsm["guide_assignment"] != again.obsm["guide_assignment"]).nnz == 0
    assert (first.obsm["cnmf_usage"] != other.obsm["cnmf_usage"]).any()
    np.testing.assert_allclose(first.obsm["cnmf_usage"].sum(1), 1, atol=1e-5)
    assert len(first.uns["true_effects"]) == 6 and set(first.uns["true_effects"]["gene"]) <= set(first.uns["guide2gene"].values())
    assert first.obsm["guide_assignment"].shape == (400, 24) and first.obsm["guide_assignment"].max() == 1
    assert 4 < first.obsm["guide_assignment"].sum() / 400 < 6
    with pytest.raises(InputError, match="programs"):
        make_sceptre_style_synth(**{**options, "n_effect_programs": 7})


def test_plain_outcomes_do_not_depend_on_the_order_in_memory():
    far = np.random.default_rng(0).normal(1e7, 1.0, (3000, 3))
    cells, found = np.arange(3000), []
    for values in (far, np.asfortranarray(far)):
        with pytest.warns(ScreenWarning, match="were centred"):
            found.append(np.concatenate([block for _, block in PlainOutcomes.of(values, cells, where="u").blocks([0, 2])]))
    np.testing.assert_array_equal(*found)
