"""Screens with one error: keys, values, sizes, labels and names."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.robustness.inputs import Case, corrupted, with_options


def fate(value):
    def change(adata):
        table = adata.obsm["lineages_fwd"]
        table.iloc[3] = value

    return change


def bare(names=None, values=None):
    def change(adata):
        found = adata.obsm["lineages_fwd"].to_numpy()
        adata.obsm["lineages_fwd"] = found if values is None else values(found)
        if names is not None:
            adata.uns["fate_names"] = np.array(names, dtype=object)

    return change


def guides(value):
    def change(adata):
        table = adata.obsm["guide"].toarray()
        table[5, 2] = value
        adata.obsm["guide"] = sp.csr_matrix(table)

    return change


def raw_counts(adata):
    adata.obsm["guide"] = sp.csr_matrix(adata.obsm["guide"] * 7 + np.random.default_rng(0).poisson(0.2, adata.obsm["guide"].shape))


def mapped(change_map):
    def change(adata):
        adata.uns["guide_map"] = change_map(adata.uns["guide_map"].copy())

    return change


def day(labels):
    def change(adata):
        adata.obs["day"] = labels(adata.n_obs)

    return change


def gone(slot, key):
    return lambda adata: getattr(adata, slot).pop(key) if slot != "obs" else adata.obs.pop(key)


def put(slot, key, value):
    return lambda adata: getattr(adata, slot).__setitem__(key, value(adata) if callable(value) else value)


def named_twice(adata):
    adata.obs_names = ["cell0", "cell0", *adata.obs_names[2:]]


def guide_names(values):
    return put("uns", "guide_names", lambda adata: np.array(values(list(adata.uns["guide_names"])), dtype=object))


FATES = "obsm['lineages_fwd']"
DAY = "obs['day']"
FIT: list[Case] = [
    corrupted("raw guide counts", raw_counts, "obsm['guide'] holds raw guide counts", "Option: --min-umi."),
    corrupted("no fates", gone("obsm", "lineages_fwd"), f"{FATES} is missing", "--fate-key"),
    corrupted("misnamed fates", lambda a: a.obsm.__setitem__("lineage_fwd", a.obsm.pop("lineages_fwd")), "guide, lineage_fwd.", "--fate-key"),
    corrupted("a NaN fate", fate(np.nan), FATES, "row 3 (cell3)", "Drop those cells"),
    corrupted("an infinite fate", fate(np.inf), FATES, "row 3 (cell3)", "Drop those cells"),
    corrupted("a fate of minus infinity", fate(-np.inf), FATES, "row 3 (cell3)", "Drop those cells"),
    corrupted("a negative fate", fate((-0.5, 1.0, 0.5)), FATES, "negative in row 3 (cell3)", "Drop those cells"),
    corrupted("a cell of no fate", fate(0.0), FATES, "row 3 (cell3)", "sum to 1", "divide each row"),
    corrupted("fates that sum to 3", fate(1.0), FATES, "row 3 (cell3)", "divide each row"),
    corrupted("fates without names", bare(), "lineages_fwd_names", "put its 3 fate names there"),
    corrupted("two names for three fates", bare(("EC", "MES")), FATES, "one name for each column"),
    corrupted("a fate named twice", bare(("EC", "MES", "MES")), FATES, "repeats a fate name", "once"),
    corrupted("one fate", bare(("EC",), lambda p: np.ones((len(p), 1))), FATES, "at least two"),
    corrupted(
        "fates of text", put("obsm", "lineages_fwd", lambda a: pd.DataFrame("x", a.obs_names, ["EC", "MES"])), FATES, "not numeric", "Give one probability"
    ),
    corrupted("fates of three axes", bare(("EC", "MES"), lambda p: np.ones((len(p), 2, 2))), FATES, "cells × fates"),
    corrupted("no guides", gone("obsm", "guide"), "obsm['guide'] is missing", "--guide-key"),
    corrupted("no guide names", gone("uns", "guide_names"), "uns['guide_names'] is missing", "guide names there"),
    corrupted("a guide name too few", guide_names(lambda names: names[1:]), "uns['guide_names']", "one name for each column"),
    corrupted("a guide named twice", guide_names(lambda names: [names[1], *names[1:]]), "guide", "unique"),
    corrupted("a NaN guide", guides(np.nan), "obsm['guide']", "row 5 (cell5)"),
    corrupted("an infinite guide", guides(np.inf), "obsm['guide']", "row 5 (cell5)"),
    corrupted("a negative guide", guides(-1), "obsm['guide']", "row 5 (cell5)"),
    corrupted("no cell with a guide", put("obsm", "guide", lambda a: sp.csr_matrix(a.obsm["guide"].shape)), "guide"),
    corrupted("no guide map", gone("uns", "guide_map"), "uns['guide_map'] is missing", "--guide-map"),
    corrupted("a map without genes", mapped(lambda m: m.drop(columns="gene_name")), "no column 'gene_name'", "It needs"),
    corrupted("a map with a guide twice", mapped(lambda m: pd.concat([m, m.iloc[:1]], ignore_index=True)), "GENE0_g1", "one row for each guide"),
    corrupted(
        "a guide of two genes", mapped(lambda m: pd.concat([m, m.iloc[:1].assign(gene_name="X")], ignore_index=True)), "two genes", "one row for each guide"
    ),
    corrupted("is_ntc neither yes nor no", mapped(lambda m: m.assign(is_ntc="perhaps")), "is_ntc", "use True or False"),
    corrupted("a map of other guides", mapped(lambda m: m.assign(guide_name=[f"x{i}" for i in range(len(m))])), "guide"),
    corrupted("only NTC guides", mapped(lambda m: m.assign(gene_name="non-targeting", is_ntc=True)), "guide"),
    corrupted("an empty map", mapped(lambda m: m.iloc[:0]), "no rows", "one for each guide"),
    corrupted("no days", gone("obs", "day"), "obs['day'] is missing", "--day-key"),
    corrupted("a NaN day", day(lambda n: [np.nan] + [1.0] * (n - 1)), "day", "row 0 (cell0)", "Fill it"),
    corrupted("an infinite day", day(lambda n: [np.inf] + [1.0] * (n - 1)), "day"),
    corrupted("days without a number", day(lambda n: ["early"] * (n - 1) + ["late"]), "'early'", "ordered categorical"),
    corrupted("two labels of one day", day(lambda n: ["d1", "day 1"] * (n // 2)), "read as the same day", "one label for each day"),
    corrupted("a day without cells", day(lambda n: pd.Categorical(["d0"] * n, ["d0", "d1"])), "d1", "remove_unused_categories"),
    corrupted("no replicates", gone("obsm", "covar"), "obs['rep'] is missing", "--rep-key"),
    corrupted(
        "a NaN replicate", lambda a: a.obsm["covar"].__setitem__("rep", pd.Categorical([None, *["r"] * (a.n_obs - 1)])), "rep", "row 0 (cell0)", "Fill it"
    ),
    corrupted("cells named twice", named_twice, "obs_names repeat: cell0", "obs_names_make_unique"),
    corrupted("no cells", lambda a: a[:0].copy(), "no cells"),
    with_options("a limit of no guide", ("--max-guides-per-cell", 0), "--max-guides-per-cell", "at least 1"),
    with_options("an unknown reference fate", ("--ref-fate", "Ec"), "'Ec'", "EC, MES, NEU", "--ref-fate"),
    with_options("an unknown contrast fate", ("--contrast-fate", "X"), "--contrast-fate", "MES, NEU"),
    with_options("the reference as contrast", ("--contrast-fate", "EC"), "--contrast-fate", "MES, NEU"),
    with_options("an unknown cluster column", ("--se", "sandwich", "--cluster-key", "clone"), "obs['clone'] is missing", "--cluster-key"),
]

USAGE = "obsm['cnmf_usage']"


def used(value):
    def change(adata):
        table = np.array(adata.obsm["cnmf_usage"], dtype=float)
        table[3] = value
        adata.obsm["cnmf_usage"] = table

    return change


def crt(name, change, *expected, options=()):
    return corrupted(name, change, *expected, by="run-crt", options=options)


def assigned(value):
    def change(adata):
        table = adata.obsm["guide_assignment"]
        table = table.toarray() if sp.issparse(table) else np.array(table)
        table[5, 2] = value
        adata.obsm["guide_assignment"] = table.astype(float)

    return change


def covariate(name, value):
    def change(adata):
        table = adata.obsm["covar"].copy()
        table[name] = value(len(table))
        adata.obsm["covar"] = table

    return change


def lost_guide(adata):
    known = dict(adata.uns["guide2gene"])
    known.pop(next(iter(known)))
    adata.uns["guide2gene"] = known


def programs(n):
    def change(adata):
        adata.obsm["cnmf_usage"] = np.ones((adata.n_obs, n))
        adata.uns["program_names"] = np.array([f"p{k}" for k in range(n)], dtype=object)

    return change


CRT: list[Case] = [
    crt("no usage", gone("obsm", "cnmf_usage"), f"{USAGE} is missing", "--usage-key"),
    crt("a NaN usage", used(np.nan), USAGE, "row 3", "Drop those cells"),
    crt("an infinite usage", used(np.inf), USAGE, "row 3", "Drop those cells"),
    crt("a negative usage", used(-1.0), USAGE, "row 3", "transform='none'"),
    crt("a cell of no usage", used(0.0), USAGE, "row 3", "Drop those cells"),
    crt("one program", programs(1), USAGE, "two or more"),
    crt("no program", programs(0), USAGE, "cells × programs"),
    crt("a program name too few", put("uns", "program_names", np.array(["p"], dtype=object)), "uns['program_names']", "one name for each column"),
    crt("no guides", gone("obsm", "guide_assignment"), "obsm['guide_assignment'] is missing", "--guide-key"),
    crt("a NaN guide", assigned(np.nan), "obsm['guide_assignment']", "row 5"),
    crt("a negative guide", assigned(-1), "obsm['guide_assignment']", "row 5"),
    crt("no guide map", gone("uns", "guide2gene"), "uns['guide2gene'] is missing", "guide2gene_key"),
    crt("a map without a guide", lost_guide, "uns['guide2gene']", "Add them to the map"),
    crt("a map of one text", put("uns", "guide2gene", "GENE0"), "uns['guide2gene'] is a", "dict of guide"),
    crt("no covariates", gone("obsm", "covar"), "obsm['covar'] is missing", "--covar-key"),
    crt("a NaN covariate", covariate("log_depth", lambda n: [np.nan, *[1.0] * (n - 1)]), "obsm['covar']", "log_depth", "row 0"),
    crt("an infinite covariate", covariate("log_depth", lambda n: [np.inf, *range(n - 1)]), "obsm['covar']", "log_depth", "row 0"),
    crt("an infinity among few values", covariate("batch_size", lambda n: [np.inf, *[1.0] * (n - 1)]), "obsm['covar']", "batch_size", "row 0"),
    crt("no cells", lambda a: a[:0].copy(), "no cells"),
    crt(
        "no NTC cell as control",
        put("uns", "guide2gene", lambda a: dict.fromkeys(a.uns["guide2gene"], "G")),
        "ntc_cells",
        "complement",
        options=("--control-group", "ntc_cells"),
    ),
    with_options("an unknown target", ("--targets", "GEN1"), "no guide targets GEN1", "GENE1", by="run-crt"),
    with_options("a target twice", ("--targets", "GENE1,GENE1"), "listed twice", "once", by="run-crt"),
    with_options("an unknown burden", ("--resampling-method", "stratified_perm", "--burden-key", "x"), "'x'", by="run-crt"),
    with_options("an unknown batch", ("--resampling-method", "stratified_perm", "--batch-key", "x"), "'x'", by="run-crt"),
    with_options("strata of the other sampler", ("--n-bins", 3), "--n-bins", "stratified_perm", by="run-crt"),
    with_options("no resamples", ("--n-resamples", 0), "--n-resamples", "at least 1", by="run-crt"),
    with_options("groups larger than the NTC guides", ("--group-size", 500), "group", by="diagnose-null"),
    with_options("a program that is not there", ("--program", 99), "program", by="diagnose-null"),
    with_options("two screens", ("--simulate",), "give one screen", "--simulate", by="diagnose-null"),
    corrupted("no NTC guides", put("uns", "guide2gene", lambda a: dict.fromkeys(a.uns["guide2gene"], "G")), "NTC", by="diagnose-null"),
]
CASES = FIT + CRT
