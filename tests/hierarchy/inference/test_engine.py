"""The natural-gradient engine against dense algebra and autograd."""

import dataclasses

import numpy as np
import pytest
import torch

from hierarchy import FitSettings, Priors
from hierarchy.inference import marginals as marginals_module
from hierarchy.inference.curvature import _effects, columns_of, eta_variance, pass_over_cells
from hierarchy.inference.gene_likelihood import GeneLikelihood, GenePosteriors, gene_posteriors
from hierarchy.inference.linear import NotDefinite, Precision, cholesky
from hierarchy.inference.marginals import marginal_covariances
from hierarchy.inference.natural import run_natural, start
from hierarchy.inference.scales import climb, effect_covariances, half_normal_scales, log_prior, score_and_information
from hierarchy.inference.weights import mean_weight
from hierarchy.problem import Problem
from tests.hierarchy.conftest import make
from tests.oracles import DenseLaplace


def problem_of(data, **settings):
    return Problem.of(data, Priors(), FitSettings(**settings), dtype=torch.float64)


@pytest.fixture(scope="module")
def problem(small):
    return problem_of(small, likelihood_weight=20.0)


@pytest.fixture(scope="module")
def end(problem):
    return run_natural(problem, start(problem))


def weighed(weight):
    """Every cell has this weight."""
    return lambda found: torch.full_like(found.cells, weight)


def dense_precision(problem, found, log_scale):
    coords = problem.coords
    n = coords.n_rows * coords.n_nonref
    operator = Precision(design=problem.design, coords=coords, states=found.states, prior=torch.diag_embed(problem.prior(log_scale)))
    return operator(torch.eye(n, dtype=torch.float64).reshape(coords.n_rows, coords.n_nonref, n)).reshape(n, n)


def test_one_pass_agrees_with_autograd(problem):
    coords, design = problem.coords, problem.design
    x = 0.3 * torch.randn(coords.n_rows, coords.n_nonref, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (block,) = design.cells.items
    dense_map = block.rows @ columns_of(design, coords, torch.eye(coords.n_rows, dtype=torch.float64))

    def log_lik(at):
        eta = dense_map @ at
        return (block.prob * torch.log_softmax(torch.cat([torch.zeros_like(eta[:, :1]), eta], 1), 1)).sum()

    found = pass_over_cells(design, coords, x, None, weighed(1.0))
    gradient = torch.autograd.functional.jacobian(log_lik, x)
    hessian = -torch.autograd.functional.hessian(log_lik, x).reshape(x.numel(), x.numel())
    torch.testing.assert_close(found.log_lik, log_lik(x))
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-9, atol=1e-9)
    for group, block in zip(coords.groups, found.blocks, strict=True):
        size = group.n_coords * coords.n_nonref
        for gene in range(len(group.genes)):
            at = slice(group.first * coords.n_nonref + gene * size, group.first * coords.n_nonref + (gene + 1) * size)
            torch.testing.assert_close(block[gene], hessian[at, at], rtol=1e-9, atol=1e-9)
    own = coords.nuisance.start * coords.n_nonref
    torch.testing.assert_close(found.nuisance, hessian[own:, own:], rtol=1e-9, atol=1e-9)
    operator = dense_precision(problem, found, torch.zeros(coords.n_nonref, coords.n_days + 1, dtype=torch.float64))
    torch.testing.assert_close(
        operator - torch.diag(problem.prior(torch.zeros(coords.n_nonref, coords.n_days + 1, dtype=torch.float64)).flatten()), hessian, rtol=1e-9, atol=1e-8
    )


def test_cubature_matches_monte_carlo(problem, end):
    coords, design = problem.coords, problem.design
    wide = [9.0 * c for c in end.covariance]
    found = pass_over_cells(design, coords, end.mean, wide, weighed(1.0))
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(400):
        parts = [
            group.split(end.mean).flatten(1) + (torch.linalg.cholesky(c) @ torch.randn(*c.shape[:2], 1, dtype=torch.float64, generator=generator)).squeeze(-1)
            for group, c in zip(coords.groups, wide, strict=True)
        ]
        at = coords.join([p.reshape(p.shape[0], -1, coords.n_nonref) for p in parts], end.mean[coords.nuisance])
        draws.append(pass_over_cells(design, coords, at, None, weighed(1.0)).log_lik)
    draws = torch.stack(draws)
    at_mean = pass_over_cells(design, coords, end.mean, None, weighed(1.0)).log_lik
    assert abs(found.log_lik - draws.mean()) < 4 * draws.std() / 20  # 4 SDs of the mean: false alarm 6e-5
    assert abs(found.log_lik - draws.mean()) < 0.1 * abs(at_mean - draws.mean())  # and the curvature is what it accounts for


def test_the_variance_of_a_cell_is_that_of_its_row(problem, end):
    coords, design = problem.coords, problem.design
    assert len(design.pair_day)  # cells with two guides of one gene, whose θ and δ are not independent
    joint = torch.zeros(coords.n_rows, coords.n_nonref, coords.n_rows, coords.n_nonref, dtype=torch.float64)
    for group, cov in zip(coords.groups, end.covariance, strict=True):
        for gene, own in enumerate(cov):
            at = slice(group.first + gene * group.n_coords, group.first + (gene + 1) * group.n_coords)
            joint[at, :, at] = own.reshape(group.n_coords, coords.n_nonref, group.n_coords, coords.n_nonref)
    (block,) = design.cells.items
    rows = block.rows @ columns_of(design, coords, torch.eye(coords.n_rows, dtype=torch.float64))
    effects = _effects(design, coords, end.mean, end.covariance)
    want = torch.einsum("nk,kfmg,nm->nfg", rows, joint, rows)
    torch.testing.assert_close(eta_variance(block, effects.variance, effects.between)[:, coords.packed], want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("design", "time_scale"),
    [({}, None), ({"n_days": 1, "guides_per_gene": 2}, None), ({"fates": ("A", "B")}, None), ({"fates": tuple("ABCDE"), "n_days": 2, "moi": 6.0}, None)]
    + [({}, [0.5, 3.0]), ({"n_days": 1}, [])],
    ids=["base", "one-day", "two-fates", "five-fates", "gaps", "one-day without gaps"],
)
def test_the_fit_is_the_dense_laplace_answer(design, time_scale):
    data, _ = make(**design)
    gaps = None if time_scale is None else torch.tensor(time_scale)
    problem = Problem.of(data, Priors(), FitSettings(likelihood_weight=20.0), time_scale=gaps, dtype=torch.float64)
    end = run_natural(problem, start(problem))
    assert end.status == "converged"
    scales = end.log_scale.exp().numpy()
    if time_scale is not None:  # one σ_time, times the multipliers
        assert scales.shape[1] == (3 if time_scale else 2)
        scales = np.concatenate([scales[:, :1], scales[:, 1:2] * np.array(time_scale), scales[:, -1:]], 1)
    dense = DenseLaplace(data, scales, 20.0, Priors())
    found = pass_over_cells(problem.design, problem.coords, end.mean, end.covariance, problem.weigh)
    blocks = marginal_covariances(problem, found, torch.diag_embed(problem.prior(end.log_scale)), generator=torch.Generator().manual_seed(0)).blocks
    mean, sd = dense.theta()
    k = problem.coords
    for group, cov in zip(k.groups, blocks, strict=True):
        d = group.n_days
        x = group.split(end.mean)[:, :d].cumsum(1)
        cumulate = torch.ones(d, d, dtype=torch.float64).tril()
        cov = cov.reshape(len(group.genes), group.n_coords, k.n_nonref, group.n_coords, k.n_nonref)[:, :d, :, :d].diagonal(dim1=2, dim2=4)
        var = torch.einsum("ab,lbcf,ac->laf", cumulate, cov, cumulate)
        own = group.genes.numpy()
        z = (x.numpy() - mean[own].transpose(0, 2, 1)) / sd[own].transpose(0, 2, 1)
        assert np.sqrt((z**2).mean()) < 0.05  # the posterior mean is not the mode, but near it
        np.testing.assert_allclose(var.sqrt().numpy(), sd[own].transpose(0, 2, 1), rtol=0.02)


def test_probes_agree_with_dense_inversion(problem, end, monkeypatch):
    found = pass_over_cells(problem.design, problem.coords, end.mean, end.covariance, problem.weigh)
    args = (problem, found, torch.diag_embed(problem.prior(end.log_scale)))
    exact = marginal_covariances(*args, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(marginals_module, "DENSE_LIMIT", 0)
    monkeypatch.setattr(marginals_module, "ITERATIONS", 60)
    monkeypatch.setattr(marginals_module, "TOLERANCE", 1e-12)
    monkeypatch.setattr(marginals_module, "PROBE_ERROR", 0.0)
    many = dataclasses.replace(problem, settings=FitSettings(likelihood_weight=20.0, n_probes=1000))
    probed = marginal_covariances(many, *args[1:], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(probed.nuisance, exact.nuisance, rtol=1e-4, atol=1e-8)
    for a, b, conditional in zip(probed.blocks, exact.blocks, end.covariance, strict=True):
        sd_a, sd_b, least = (m.diagonal(dim1=1, dim2=2).sqrt() for m in (a, b, conditional))
        assert (sd_a / sd_b - 1).abs().max() < 0.02
        assert (sd_b >= least * (1 - 1e-6)).all() and (sd_b / least).max() > 1.02  # there was something to find


@pytest.mark.parametrize("moi", [1.0, 12.0])
def test_solves_stop_when_the_errors_do_not_change(moi, monkeypatch):
    problem = problem_of(make(moi=moi, n_cells=1500, n_genes=20)[0], likelihood_weight=20.0, n_probes=16)
    end = run_natural(problem, start(problem))
    found = pass_over_cells(problem.design, problem.coords, end.mean, end.covariance, problem.weigh)
    monkeypatch.setattr(marginals_module, "DENSE_LIMIT", 0)
    ends = []
    for tolerance in (marginals_module.TOLERANCE, 1e-12):
        monkeypatch.setattr(marginals_module, "TOLERANCE", tolerance)
        monkeypatch.setattr(marginals_module, "ITERATIONS", 30 if tolerance > 1e-9 else 100)
        ends.append(marginal_covariances(problem, found, torch.diag_embed(problem.prior(end.log_scale)), generator=torch.Generator().manual_seed(0)))
    for a, b in zip([ends[0].nuisance, *ends[0].blocks], [ends[1].nuisance, *ends[1].blocks], strict=True):
        torch.testing.assert_close(a.diagonal(dim1=-2, dim2=-1).sqrt(), b.diagonal(dim1=-2, dim2=-1).sqrt(), rtol=3e-4, atol=0)


def test_probes_stop_when_the_errors_are_known(problem, end, monkeypatch):
    found = pass_over_cells(problem.design, problem.coords, end.mean, end.covariance, problem.weigh)
    monkeypatch.setattr(marginals_module, "DENSE_LIMIT", 0)
    drawn = []
    noise = marginals_module._noise
    monkeypatch.setattr(marginals_module, "_noise", lambda p, q, s, g: (drawn.append(s), noise(p, q, s, g))[1])
    for error, want in ((1.0, 16), (0.0, 48)):
        drawn.clear()
        monkeypatch.setattr(marginals_module, "PROBE_ERROR", error)
        marginal_covariances(problem, found, torch.diag_embed(problem.prior(end.log_scale)), generator=torch.Generator().manual_seed(0))
        assert sum(drawn) == want


@pytest.mark.parametrize("time_scale", [None, [0.5, 3.0]], ids=["steps", "gaps"])
def test_the_score_of_the_scales_is_the_gradient_of_the_evidence(small, end, time_scale):
    settings = FitSettings(likelihood_weight=20.0)
    problem = Problem.of(small, Priors(), settings, time_scale=None if time_scale is None else torch.tensor(time_scale), dtype=torch.float64)
    coords = problem.coords
    likelihood = likelihood_at(problem, end)
    half = half_normal_scales(coords, problem.priors)
    at = (0.3 * torch.randn(half.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1).requires_grad_()
    genes = gene_posteriors(coords, at, likelihood)
    (want,) = torch.autograd.grad(genes.evidence + log_prior(at, half), at)
    detached = GenePosteriors(mean=[m.detach() for m in genes.mean], factor=[f.detach() for f in genes.factor], evidence=genes.evidence.detach())
    got, information = score_and_information(coords, at.detach(), half, detached)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
    assert (information > 0).all()


def likelihood_at(problem, end):
    found = pass_over_cells(problem.design, problem.coords, end.mean, end.covariance, problem.weigh)
    return GeneLikelihood.at_pass(problem.coords, found, end.mean)


@pytest.mark.parametrize("time_scale", [None, [0.5, 3.0]], ids=["steps", "gaps"])
def test_covariances_between_fates_are_where_the_evidence_is_largest(small, end, time_scale):
    """The prior of genes' effects in place of independent scales: the gradient of its evidence, by autograd, is zero."""
    settings = FitSettings(likelihood_weight=20.0)
    problem = Problem.of(small, Priors(tau=0.5), settings, time_scale=None if time_scale is None else torch.tensor(time_scale), dtype=torch.float64)
    coords, likelihood = problem.coords, likelihood_at(problem, end)
    half = half_normal_scales(coords, problem.priors)
    found = torch.eye(coords.n_nonref, dtype=torch.float64).repeat(coords.n_scales, 1, 1)
    for _ in range(4):
        found = effect_covariances(coords, found, half, likelihood)
    assert found[:, 0, 1].abs().max() > 0.02
    change = torch.zeros_like(found).requires_grad_()  # Ψ = L exp(change) L'
    root = torch.linalg.cholesky(found)
    own = root @ torch.linalg.matrix_exp((change + change.transpose(1, 2)) / 2) @ root.transpose(1, 2)
    equal = (torch.eye(coords.n_nonref, dtype=torch.float64) + 1) / 2
    total = 0.5 * (torch.logdet(own) - torch.einsum("sfg,sgf->s", own, torch.linalg.inv(equal) / half[0].square().view(-1, 1, 1))).sum()
    for group, h, r in zip(coords.groups, likelihood.info, likelihood.linear, strict=True):
        step = own[group.scale_of] * group.multiplier.square().view(-1, 1, 1)
        variance = torch.block_diag(*step) + torch.linalg.inv(h)  # of the maximum-likelihood estimates H⁻¹r
        estimate = torch.linalg.solve(h, r.unsqueeze(-1))
        total = total - 0.5 * (torch.logdet(variance).sum() + (estimate * torch.linalg.solve(variance, estimate)).sum())
    (gradient,) = torch.autograd.grad(total, change)
    assert gradient.abs().max() < 0.01  # of sums over six genes, whose terms are of order 1


def test_with_two_fates_the_covariances_are_the_squares_of_the_scales():
    problem = problem_of(make(fates=("A", "B"))[0], likelihood_weight=20.0)
    coords, end = problem.coords, run_natural(problem, start(problem))
    half, likelihood = half_normal_scales(coords, problem.priors), likelihood_at(problem, end)
    found = torch.ones(coords.n_scales, 1, 1, dtype=torch.float64)
    for _ in range(4):
        found = effect_covariances(coords, found, half, likelihood)
    torch.testing.assert_close(found[:, 0, 0].sqrt().log(), climb(coords, end.log_scale, half, likelihood, 20)[0], rtol=0, atol=1e-3)


def test_a_matrix_that_is_not_definite_names_its_genes():
    matrices = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)
    matrices[1, 0, 0] = -1.0
    with pytest.raises(NotDefinite) as error:
        cholesky(matrices, torch.tensor([4, 7, 9]))
    assert error.value.genes == [7]
    with pytest.raises(torch.linalg.LinAlgError):
        cholesky(matrices[1])


def test_the_weight_is_found_at_every_precision():
    for precision, want in ((5.0, 6.0), (50.0, 51.0), (500.0, 501.0), (None, 1.0)):
        data, _ = make(n_cells=4000, n_genes=10, concentration=precision)
        problem = problem_of(data)
        weight = run_natural(problem, start(problem)).weight
        assert mean_weight(weight, problem.design.group_cells).item() == pytest.approx(
            want, rel=0.05
        )  # its sampling error is 1/sqrt(8000), about 1.5 % with Dirichlet tails


def test_the_weight_is_found_where_every_cell_carries_all_guides_of_a_gene():
    data, _ = make(n_cells=2000, n_genes=10, guides_per_gene=2)
    gene_of_cell = torch.arange(2000) % 10  # both guides of one gene in each cell, and no effect of any
    prob = torch.from_numpy(np.random.default_rng(0).dirichlet([50.0 / 3] * 3, 2000)).float()
    parts = {"cell_guides": data.guides_by_gene.reshape(10, 2)[gene_of_cell].flatten(), "cell_offsets": 2 * torch.arange(2001), "fate_prob": prob}
    problem = problem_of(dataclasses.replace(data, guide_burden=torch.zeros(2000), **parts))
    weight = run_natural(problem, start(problem)).weight
    assert mean_weight(weight, problem.design.group_cells).item() == pytest.approx(51.0, rel=0.1)


def test_steps_do_not_depend_on_where_they_start(problem, end):
    other = start(problem)
    generator = torch.Generator().manual_seed(3)
    far = type(other)(
        mean=other.mean + 0.5 * torch.randn(other.mean.shape, dtype=torch.float64, generator=generator), log_scale=other.log_scale - 1.5, weight=other.weight
    )
    again = run_natural(problem, far)
    sd = torch.cat([c.diagonal(dim1=1, dim2=2).flatten() for c in end.covariance])
    moved = torch.cat([(g.split(again.mean) - g.split(end.mean)).flatten() for g in problem.coords.groups])
    assert again.status == "converged" and (moved / sd).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("of_one_day", [False, True])
def test_directions_that_change_no_cell_follow_their_prior(small, of_one_day):
    """At a weight where the round-off of single precision is larger than the prior; replicates are shared by the days, or each is of one day."""
    data = dataclasses.replace(small, rep=small.day.to(small.rep.dtype), reps=tuple("abc")) if of_one_day else small
    problem = Problem.of(data, Priors(), FitSettings(likelihood_weight=1e6))
    state = run_natural(problem, start(problem))
    assert state.status == "converged" and state.step <= 12
    pull = (problem.nuisance_prior * state.mean[problem.coords.nuisance]).split([data.n_days, data.n_reps, 1])
    by_day, by_rep = (pull[0], pull[1]) if of_one_day else (pull[0].sum(0), pull[1].sum(0))
    torch.testing.assert_close(by_day, by_rep, rtol=0, atol=1e-6)
