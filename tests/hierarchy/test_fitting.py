import dataclasses
import os
import subprocess
import sys
import warnings

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS

from data_prep import InputError, ScreenWarning
from hierarchy import FitFailed, FitSettings, Priors, check_fit, choose_device, fit, hierarchy_model, summarise
from hierarchy.inference.checkpoint import Checkpoint
from hierarchy.inference.linear import NotDefinite
from tests import ROOT
from tests.hierarchy.conftest import make


def table(fitted):
    effects = summarise(fitted)
    return effects.gene_table(effects.fates[0]).to_csv(index=False, float_format="%.10g")


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"n_days": 1},
        {"n_days": 8},
        {"fates": ("A", "B")},
        {"fates": tuple("ABCDE")},
        {"guides_per_gene": (1, 12)},
        {"moi": 10.0},
        {"concentration": None},
        {"day_weights": (1, 1, 0.05)},
    ],
    ids=["base", "one-day", "eight-days", "two-fates", "five-fates", "unbalanced", "moi-10", "one-hot", "few-on-a-day"],
)
def test_it_converges_on_screens_of_every_kind(design):
    data, screen = make(n_cells=2500, n_genes=12, **design)
    fitted = fit(data)
    m = fitted.moments()
    names = [f"GENE{i:02d}" for i in range(12)]
    truth = torch.tensor(screen.theta)[[names.index(g) for g in data.genes]]
    z = (m.theta_mean - truth) / m.theta_sd
    assert fitted.converged and m.theta_mean.shape == truth.shape
    assert torch.isfinite(z).all() and z.square().mean().sqrt() < 1.6  # standard errors are calibrated


def test_the_same_seed_gives_the_same_bytes(small):
    assert table(fit(small)) == table(fit(small))


def test_hash_seed_does_not_matter(tmp_path, small):
    code = "from tests.hierarchy.conftest import make; from tests.hierarchy.test_fitting import table, fit; print(table(fit(make()[0])))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}  # this process has a random one
    there = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert there.strip() == table(fit(small)).strip()


@pytest.mark.parametrize(("posterior", "killed", "resumed"), [("gene_block", 3, 4), ("mean_field", 20, 40)])
def test_a_killed_fit_resumes_to_the_same_bytes(small, tmp_path, monkeypatch, posterior, killed, resumed):
    monkeypatch.setattr("hierarchy.inference.checkpoint.SECONDS_BETWEEN", -1.0)
    monkeypatch.setattr("hierarchy.inference.mean_field.WINDOW", 20)
    settings = FitSettings(posterior=posterior, max_steps=None if posterior == "gene_block" else 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        whole = table(fit(small, settings=settings))
        save = Checkpoint.save

        def save_and_die(self, stage, parts, **last):
            save(self, stage, parts, **last)
            if parts["step"] == killed:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            fit(small, settings=settings, checkpoint=tmp_path / "c.pt")
        steps = []
        monkeypatch.setattr(Checkpoint, "save", lambda self, stage, parts, **last: steps.append(parts["step"]))
        assert table(fit(small, settings=settings, checkpoint=tmp_path / "c.pt")) == whole
        assert steps[0] == resumed  # it resumed and did not restart


def test_a_foreign_checkpoint_is_refused(small, tmp_path):
    path = tmp_path / "c.pt"
    fit(small, checkpoint=path)
    with pytest.raises(InputError, match="another screen, other settings"):
        fit(small, settings=FitSettings(seed=5), checkpoint=path, resume=True)
    path.write_bytes(b"nothing of ours")
    with pytest.raises(InputError, match="cannot be read"):
        fit(small, checkpoint=path)


def test_reaching_the_step_limit_is_a_warning(small):
    with pytest.warns(ScreenWarning, match="did not converge in 2 steps. Raise max_steps"):
        outcome = fit(small, settings=FitSettings(max_steps=2)).outcome
    assert outcome.status == "step_limit" and not outcome.failed and outcome.arguments == ("max_steps",)


@pytest.mark.slow
def test_mean_field_errors_grow_with_the_day_and_gene_block_errors_do_not():
    data, _ = make(n_cells=4000, n_genes=20, guides_per_gene=4, n_days=4)
    ratio = {
        name: (m := fit(data, settings=FitSettings(posterior=name)).moments()).theta_sd[..., -1].median() / m.theta_sd[..., 0].median()
        for name in ("gene_block", "mean_field")
    }
    assert 0.85 < ratio["gene_block"] < 1.25 < ratio["mean_field"]


@pytest.mark.slow
def test_minibatch_mean_field_agrees_with_full_batch():
    data, _ = make(n_cells=2000, n_genes=8)
    settings = {"posterior": "mean_field", "likelihood_weight": 10.0, "max_steps": 1500}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        full, batched = (fit(data, settings=FitSettings(**settings, batch_cells=b)).moments() for b in (None, 500))
    assert ((full.theta_mean - batched.theta_mean) / full.theta_sd).square().mean().sqrt() < 0.8


def test_devices_by_name():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="not a device"):
        choose_device("quantum")
    with pytest.raises(InputError, match="'meta' is not a device"):
        choose_device("meta")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu(small):
    cpu, gpu = (fit(small.to(device)).moments() for device in ("cpu", "cuda"))
    torch.testing.assert_close(gpu.theta_mean.cpu(), cpu.theta_mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gpu.theta_sd.cpu(), cpu.theta_sd, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"posterior": "flow"},
        {"likelihood_weight": -1.0},
        {"likelihood_weight": True},
        {"max_steps": 2.5},
        {"n_probes": 1},
        {"likelihood_weight": "often"},
        {"max_steps": 0},
        {"batch_cells": 10},
        {"learning_rate": 0.0},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad)).split("_")[0]):
        FitSettings(**bad)


def test_bad_priors_and_time_scale_are_refused(small):
    with pytest.raises(InputError, match="tau is 0"):
        Priors(tau=0.0)
    with pytest.raises(InputError, match="alpha is inf"):
        Priors(alpha=float("inf"))
    for bad in (torch.tensor([1.0]), torch.ones(2, 1), torch.tensor([1.0, torch.inf]), torch.tensor([1.0, torch.nan])):
        with pytest.raises(InputError, match="2 positive entries"):
            fit(small, time_scale=bad)


@pytest.mark.parametrize(
    ("fate_prob", "settings", "status", "advice"),
    [
        ([1 / 3, 1 / 3, 1 / 3], {}, "not_definite", "all cells have the same fate probabilities"),
        ([0.0, 1.0, 0.0], {}, "not_definite", "all cells have the same fate probabilities"),
        (None, {"likelihood_weight": 1e300}, "not_definite", "Set likelihood_weight to a smaller number"),
        (None, {"posterior": "mean_field", "learning_rate": 1e6}, "not_finite", "the ELBO is not finite at step 1. Lower learning_rate"),
        (None, {"posterior": "mean_field", "likelihood_weight": 1e300}, "not_definite", "Set likelihood_weight to a smaller number"),
    ],
)
def test_a_numerical_failure_is_an_outcome_with_advice(small, fate_prob, settings, status, advice):
    data = small if fate_prob is None else dataclasses.replace(small, fate_prob=torch.tensor(fate_prob).expand(small.n_cells, 3))
    failed = fit(data, settings=FitSettings(**settings))
    assert failed.outcome.status == status and failed.outcome.failed and advice in failed.outcome.advice
    assert failed.posterior is None and not failed.converged and set(failed.outcome.genes) <= set(data.genes)
    for ask in (summarise, check_fit, lambda f: f.draws(3), lambda f: f.moments(), lambda f: f.nuisance_mean()):
        with pytest.raises(FitFailed) as error:
            ask(failed)
        assert str(error.value) == failed.outcome.advice and not isinstance(error.value, InputError)


def test_a_failure_of_the_posterior_after_the_fit_is_reported_too(small_fit):
    class Broken:
        def moments(self, **_):
            raise NotDefinite([1])

    with pytest.raises(FitFailed, match=f"of {small_fit.model.data.genes[1]} is not positive definite"):
        dataclasses.replace(small_fit, posterior=Broken()).moments()


def test_a_batch_is_not_larger_than_the_screen(small):
    with pytest.raises(InputError, match="the screen has 600 cells"):
        fit(small, settings=FitSettings(posterior="mean_field", batch_cells=601))


def test_longer_gaps_shrink_less():
    """All steps share σ_time, so a step that is known to be eight times as long as the other is shrunk less, and the other one more."""
    data, _ = make(n_cells=1500, n_genes=15, concentration=5.0)
    even, last = (fit(data, time_scale=torch.tensor(steps)) for steps in ([1.0, 1.0], [1.0, 8.0]))
    steps = [f.moments().theta_mean.diff(dim=-1).abs().mean((0, 1)) for f in (even, last)]
    assert steps[1][1] > 1.15 * steps[0][1] and steps[1][0] < 0.85 * steps[0][0]
    assert last.scale_points().scales.shape[1:] == last.draws(2).scales.shape[1:] == (2, 3)


@pytest.mark.slow
def test_nuts_agrees():
    data, screen = make(n_cells=800, n_genes=5, guides_per_gene=3, n_days=2, concentration=10.0)
    fitted = fit(data)
    model = hierarchy_model(data, weight=fitted.weight, dtype=torch.float64)
    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model, max_tree_depth=8), num_samples=400, warmup_steps=300, disable_progbar=True)
    mcmc.run()
    s = mcmc.get_samples()
    theta = (s["tau"] * s["z"])[..., None] + torch.cat([torch.zeros_like(s["z"])[..., None], (s["sigma_time"] * s["eps"]).cumsum(-1)], -1)
    theta = theta.transpose(1, 2)
    m = fitted.moments()
    assert ((m.theta_mean - theta.mean(0)) / theta.std(0)).square().mean().sqrt() < 0.2
    assert (m.theta_sd / theta.std(0)).median().item() == pytest.approx(1.0, abs=0.08)
