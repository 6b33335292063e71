"""Slow, dense truths to hold the fast paths against; written from the formulas, sharing no code with the package."""

import numpy as np
from scipy.linalg import null_space


def center_by_loop(u, guides_by_gene, gene_offsets):
    """ū over the last axis, gene by gene."""
    out = np.array(u, dtype=float)
    for start, stop in zip(gene_offsets[:-1], gene_offsets[1:], strict=True):
        own = guides_by_gene[start:stop]
        out[..., own] -= out[..., own].mean(-1, keepdims=True)
    return out


def log_softmax(eta):
    """Of (0, η) over the last axis."""
    full = np.concatenate([np.zeros((*eta.shape[:-1], 1)), eta], -1)
    top = full.max(-1, keepdims=True)
    return full - top - np.log(np.exp(full - top).sum(-1, keepdims=True))


def cell_log_lik(data, sites, weight=1.0, center=True):
    """w Σ_f p log π for every cell, from the sites of the Pyro model, cell by cell."""
    gene, offsets, guides = (getattr(data, n).numpy() for n in ("guide_to_gene", "cell_offsets", "cell_guides"))
    day, rep, burden, prob = data.day.numpy(), data.rep.numpy(), data.guide_burden.numpy().astype(float), data.fate_prob.numpy().astype(float)
    s = {k: v.detach().numpy().astype(float) for k, v in sites.items()}
    theta = (s["tau"] * s["z"])[..., None]
    for d in range(data.n_days - 1):
        theta = np.concatenate([theta, theta[..., -1:] + (s["sigma_time"][..., d] * s["eps"][..., d])[..., None]], -1)
    u = center_by_loop(s["u"], data.guides_by_gene.numpy(), data.gene_offsets.numpy()) if center else s["u"]
    delta = s["sigma_guide"] * u
    out = np.zeros(data.n_cells)
    for i in range(data.n_cells):
        eta = s["alpha"][:, 0, day[i]] + s["b"][:, 0, rep[i]] + s["gamma"][:, 0] * burden[i]
        for g in guides[offsets[i] : offsets[i + 1]]:
            eta = eta + theta[:, gene[g], day[i]] + delta[:, g]
        out[i] = weight * (prob[i] * log_softmax(eta)).sum()
    return out


class DenseLaplace:
    """Newton's mode and the full inverse Hessian at given scales and weight.

    `scales` is (F*, D + 1): τ, σ_time for each step, σ_guide; or covariances over non-reference fates in place of their squares, (D + 1, F*, F*), and then the
    nuisance columns have their prior SD in every contrast of two fates. Coordinates for each non-reference fate are ξ and v for each gene (v in an
    orthonormal basis of the mean-zero vectors, here from a null space), then the nuisance columns.
    """

    def __init__(self, data, scales, weight, priors, n_newton=30):
        n, n_days, f = data.n_cells, data.n_days, data.n_free
        offsets, guides, day, rep = (getattr(data, k).numpy() for k in ("cell_offsets", "cell_guides", "day", "rep"))
        per_guide = np.zeros((n, data.n_guides))
        for i in range(n):
            per_guide[i, guides[offsets[i] : offsets[i + 1]]] = 1.0
        columns, scale_of, self.theta_rows = [], [], []
        for gene in range(data.n_genes):
            own = data.guides_by_gene.numpy()[data.gene_offsets[gene] : data.gene_offsets[gene + 1]]
            carried = per_guide[:, own].sum(1)
            self.theta_rows.append(len(scale_of) + np.arange(n_days))
            for d in range(n_days):
                columns.append(carried * (day >= d))
                scale_of.append(d)
            basis = null_space(np.ones((1, own.size))) if own.size > 1 else np.zeros((1, 0))
            columns += list((per_guide[:, own] @ basis).T)
            scale_of += [n_days] * basis.shape[1]
        self.n_gene_columns = len(columns)
        columns += [(day == d).astype(float) for d in range(n_days)] + [(rep == r).astype(float) for r in range(data.n_reps)]
        columns.append(data.guide_burden.numpy().astype(float))
        design = np.stack(columns, 1)
        nuisance = np.r_[[priors.alpha] * n_days, [priors.rep] * data.n_reps, priors.gamma]
        if np.ndim(scales) == 2:
            spread = [np.diag(np.square(scales[:, s])) for s in scale_of] + [s**2 * np.eye(f) for s in nuisance]
        else:
            spread = [scales[s] for s in scale_of] + [s**2 * (np.eye(f) + 1) / 2 for s in nuisance]
        size = design.shape[1]
        self.prior = np.zeros((f * size, f * size))
        for column, covariance in enumerate(spread):
            self.prior[column::size, column::size] = np.linalg.inv(covariance)
        p = data.fate_prob.numpy().astype(float)
        x = np.zeros(f * design.shape[1])
        for _ in range(n_newton):
            eta = design @ x.reshape(f, -1).T
            pi = np.exp(log_softmax(eta))[:, 1:]
            gradient = weight * (design.T @ (p[:, 1:] - pi)).T.ravel() - self.prior @ x
            hessian = (
                np.block([[(design * ((pi[:, a] * (a == b) - pi[:, a] * pi[:, b]) * weight)[:, None]).T @ design for b in range(f)] for a in range(f)])
                + self.prior
            )
            x = x + np.linalg.solve(hessian, gradient)
        self.mode, self.covariance, self.f, self.n_days = x, np.linalg.inv(hessian), f, n_days

    def theta(self):
        """Mean and SD of θ, (L, F*, D)."""
        size = self.mode.size // self.f
        cumulate = np.tril(np.ones((self.n_days, self.n_days)))
        mean = np.stack([[cumulate @ self.mode[k * size + rows] for k in range(self.f)] for rows in self.theta_rows])
        sd = np.stack(
            [
                [np.sqrt(np.diag(cumulate @ self.covariance[np.ix_(k * size + rows, k * size + rows)] @ cumulate.T)) for k in range(self.f)]
                for rows in self.theta_rows
            ]
        )
        return mean, sd

    def likelihood_type(self, gene, n_deviations, guide_precision, carried):
        """Estimates of θ and β of one gene and their covariances, without the prior of θ (and, for β, of δ); NaN where there are no cells.

        The gene's likelihood is the Schur complement of the joint precision without the gene's prior. `guide_precision` is the prior precision of δ over
        fates, and `carried` is whether the gene's guides (in the order of their columns) have cells on a day, (guides, days).
        """
        f, d, size = self.f, self.n_days, self.mode.size // self.f
        columns = np.r_[self.theta_rows[gene], self.theta_rows[gene][-1] + 1 + np.arange(n_deviations)]
        own = (np.arange(f)[:, None] * size + columns).ravel()
        other = np.setdiff1d(np.arange(self.mode.size), own)
        joint = np.linalg.inv(self.covariance)
        linear = joint @ self.mode
        joint[np.ix_(own, own)] -= self.prior[np.ix_(own, own)]
        between = joint[np.ix_(own, other)] @ np.linalg.inv(joint[np.ix_(other, other)])
        info, score = joint[np.ix_(own, own)] - between @ joint[np.ix_(other, own)], linear[own] - between @ linear[other]
        effect = np.tril(np.ones((d, d)))
        basis = null_space(np.ones((1, n_deviations + 1))) if n_deviations else np.zeros((1, 0))
        to_theta = np.kron(np.eye(f), np.hstack([effect, np.zeros((d, n_deviations))]))
        to_beta = np.kron(np.eye(f), np.hstack([np.tile(effect, (n_deviations + 1, 1)), np.repeat(basis, d, 0)]))
        with_guides = info + np.kron(guide_precision, np.diag(np.r_[np.zeros(d), np.ones(n_deviations)]))
        found = []
        for matrix, to, seen in ((with_guides, to_theta, carried.any(0)), (info, to_beta, carried.ravel())):
            inverse = np.linalg.pinv(matrix, rcond=1e-11)
            there = np.tile(seen, f)
            estimate, cov = np.where(there, to @ inverse @ score, np.nan), np.where(np.outer(there, there), to @ inverse @ to.T, np.nan)
            found += [estimate.reshape(f, -1), cov]
        return found
