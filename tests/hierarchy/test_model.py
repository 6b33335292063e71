import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam
from scipy.stats import halfnorm, norm

from hierarchy import Priors, hierarchy_model
from tests.hierarchy.conftest import make
from tests.oracles import cell_log_lik

LATENT = ("tau", "sigma_time", "sigma_guide", "alpha", "b", "gamma", "z", "eps", "u")


def prior_log_density(sites, priors):
    """Of every latent site, from the specification."""
    scale = {"alpha": priors.alpha, "b": priors.rep, "gamma": priors.gamma, "z": 1, "eps": 1, "u": 1}
    half = {"tau": priors.tau, "sigma_time": priors.time, "sigma_guide": priors.guide}
    total = sum(norm(0, s).logpdf(sites[k].numpy()).sum() for k, s in scale.items() if k in sites)
    return total + sum(halfnorm(0, s).logpdf(sites[k].numpy()).sum() for k, s in half.items() if k in sites)


def latent(trace):
    return {k: trace.nodes[k]["value"] for k in LATENT if k in trace.nodes}


@pytest.mark.parametrize(
    "design", [{}, {"n_days": 1}, {"fates": ("A", "B")}, {"fates": tuple("ABCDE"), "n_days": 2}], ids=["base", "one-day", "two-fates", "five-fates"]
)
@pytest.mark.parametrize("center", [True, False])
def test_log_density_equals_an_independent_computation(design, center):
    data, _ = make(n_cells=150, **design)
    priors = Priors(tau=1.0, rep=0.5)
    model = hierarchy_model(data, priors=priors, dtype=torch.float64, weight=3.5, center_guides=center)
    pyro.set_rng_seed(0)
    trace = poutine.trace(model).get_trace()
    want = prior_log_density(latent(trace), priors) + cell_log_lik(data, latent(trace), 3.5, center).sum()
    assert trace.log_prob_sum().item() == pytest.approx(want, rel=1e-6)


def test_the_likelihood_is_counted_once_under_a_subsampled_plate(small):
    pyro.set_rng_seed(1)
    sites = latent(poutine.trace(hierarchy_model(small, dtype=torch.float64)).get_trace())
    per_cell = cell_log_lik(small, sites, 2.0)
    batched = poutine.condition(hierarchy_model(small, dtype=torch.float64, weight=2.0, batch_cells=100), sites)
    got = []
    for _ in range(200):
        trace = poutine.trace(batched).get_trace()
        trace.compute_log_prob()
        assert trace.nodes["fate"]["log_prob"].shape[-1] == 100
        got.append(trace.nodes["fate"]["log_prob_sum"].item())
    # sampling error of the mean of 200 estimates from 100 of 600 cells without replacement; 4.5 SDs: false alarm 7e-6
    error = 600 * per_cell.std(ddof=1) * np.sqrt((1 - 100 / 600) / 100 / 200)
    assert abs(np.mean(got) - per_cell.sum()) < 4.5 * error
    trace = poutine.trace(batched).get_trace()
    trace.compute_log_prob()
    cells = trace.nodes["cells"]["value"].numpy()
    torch.testing.assert_close(trace.nodes["fate"]["log_prob"].flatten(), torch.tensor(per_cell[cells]) * 6.0, rtol=1e-6, atol=0)


def test_predictive_runs_in_parallel_and_serially_alike(small):
    model = hierarchy_model(small, dtype=torch.float64)
    pyro.set_rng_seed(2)
    draws = Predictive(model, num_samples=5, parallel=True)()
    assert draws["theta"].shape[0] == 5 and draws["theta"].squeeze().shape == (5, small.n_free, small.n_genes, small.n_days)
    delta = draws["delta"].reshape(5, small.n_free, small.n_guides)
    means = torch.zeros(5, small.n_free, small.n_genes, dtype=delta.dtype).index_add(-1, small.guide_to_gene, delta)
    assert means.abs().max() < 1e-9
    serial = Predictive(model, num_samples=2)()
    assert serial["theta"].squeeze().shape == (2, small.n_free, small.n_genes, small.n_days)


def test_nuts_runs_and_moves():
    data, _ = make(n_cells=60, n_genes=2, guides_per_gene=2, n_days=2)
    pyro.set_rng_seed(3)
    mcmc = MCMC(NUTS(hierarchy_model(data, dtype=torch.float64), max_tree_depth=4), num_samples=8, warmup_steps=8, disable_progbar=True)
    mcmc.run()
    z = mcmc.get_samples()["z"]
    assert z.shape == (8, data.n_free, data.n_genes) and torch.isfinite(z).all() and z.std(0).min() > 0


def test_the_model_renders(small):
    graph = pyro.render_model(hierarchy_model(small), render_distributions=True)
    assert all(site in graph.source for site in LATENT) and "HalfNormal" in graph.source


def test_svi_runs_under_anomaly_detection(small):
    pyro.clear_param_store()
    pyro.set_rng_seed(4)
    model = hierarchy_model(small, batch_cells=200, check_centering=True)
    svi = SVI(model, AutoNormal(model), Adam({"lr": 0.05}), Trace_ELBO())
    with torch.autograd.set_detect_anomaly(True):
        losses = [svi.step() for _ in range(30)]
    assert np.isfinite(losses).all() and np.mean(losses[-10:]) < np.mean(losses[:10])


def test_time_scale_multiplies_the_steps():
    data, _ = make(n_cells=80)
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
    pyro.set_rng_seed(5)
    plain = poutine.trace(hierarchy_model(data, dtype=torch.float64, time_scale=torch.ones(2, dtype=torch.float64))).get_trace()
    scaled = poutine.trace(poutine.condition(hierarchy_model(data, dtype=torch.float64, time_scale=scale), latent(plain))).get_trace()
    assert plain.nodes["sigma_time"]["value"].shape[-1] == 1  # one for all steps of a fate
    torch.testing.assert_close(scaled.nodes["theta"]["value"].diff(dim=-1), plain.nodes["theta"]["value"].diff(dim=-1) * scale)
