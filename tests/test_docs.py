"""README and docs: files, commands and names in them exist, and their code runs. `make docs` builds the site."""

import re
import shutil
import subprocess
import sys
import tomllib
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import crt
import data_prep
import hierarchy
from data_prep.errors import ScreenWarning
from tests import ROOT

PAGES = sorted(p for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")] if "_build" not in p.parts)
FENCE = re.compile(r"^```(\{?[\w-]*\}?)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
sys.path.append(str(ROOT / "docs" / "_ext"))

from command_tables import options_of, script_of, updated


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, *kinds):
    return [code for kind, code in FENCE.findall(text_of(page)) if kind in kinds]


def anchors(page):
    """The anchors of the headings of a page."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in found}


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_figures_exist(page):
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{target} is not there"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_commands_and_options_named_exist(page):
    text = text_of(page)
    for path in re.findall(r"\b(?:python|Rscript) ([\w/]+\.(?:py|R))\b", text):
        assert (ROOT / path).is_file() or (ROOT / "docs" / path).is_file(), path
    for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)`", text, re.MULTILINE):
        assert f"\n{''.join(target)}:" in text_of(ROOT / "Makefile"), target
    fields = {f"--{name.replace('_', '-')}" for command in PROJECT["scripts"] for name in options_of(command).model_fields}
    fields |= {f"--no-{name[2:]}" for name in fields} | {"--help", "--version", "--config", "--verbose", "--quiet"}
    own = re.sub(r"^.*(pip install|sphinx|Rscript|sbatch|helm install|dask, worker).*$", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", own)) <= fields


def test_every_command_has_its_table_and_script():
    page = text_of(ROOT / "docs" / "commands.md")
    listed = re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(PROJECT["scripts"])
    assert page == updated(page), "the options changed: python docs/_ext/command_tables.py"
    assert all((ROOT / script_of(command)).is_file() and options_of(command).__doc__ for command in listed)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_runs(page, tmp_path, monkeypatch):
    """Run all blocks of a page in order. Warnings are errors, except those about the data."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    globs = {}
    for code in blocks(page, "python"):
        compiled = compile(code, name_of(page), "exec")
        if "with CellRank" in code:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScreenWarning)
            exec(compiled, globs)
    plt.close("all")


@pytest.mark.parametrize("package", [data_prep, hierarchy, crt], ids=lambda package: package.__name__)
def test_the_reference_lists_every_public_name_once(package):
    text = text_of(ROOT / "docs" / "api" / f"{package.__name__}.rst")
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE) + re.findall(r"py:data:: (\w+)", text)
    assert sorted(listed) == sorted(package.__all__)


WRITERS = sorted(p for room in ("cli", "runs") for p in (ROOT / "fatescreen" / room).glob("*.py"))


def test_the_architecture_page_lists_every_directory():
    """The tree on the page is the tree of the packages, with the same depth."""
    tree = blocks(ROOT / "docs" / "architecture.md", "text")[0]
    listed, parents = set(), []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\w+)/", line).groups()
        parents[len(indent) // 2 :] = [name]
        listed.add("/".join(parents))
    packages = ("data_prep", "hierarchy", "crt", "fatescreen")
    actual = {str(init.parent.relative_to(ROOT)) for package in packages for init in (ROOT / package).rglob("__init__.py")}
    assert {path for path in listed if path.split("/")[0] in packages} == actual
    assert all((ROOT / path).is_dir() for path in listed)


def test_every_output_is_described():
    """The outputs page contains the names of all result files in the code."""
    page = text_of(ROOT / "docs" / "outputs.md")
    code = "".join(text_of(path) for path in WRITERS)
    named = set(re.findall(r"[\"/ ]([a-z]\w+\.(?:csv|npz|png|nc|json|html|h5ad))\"", code))
    assert {"gene_daywise_for_mash.csv", "report.html", "screen.h5ad"} <= named
    assert not [name for name in named if name not in page]


def test_quoted_messages_are_in_the_code():
    """Each message of the troubleshooting page is in the code, apart from the parts that vary (…)."""
    code = "".join(text_of(p) for package in ("data_prep", "hierarchy", "crt", "fatescreen") for p in (ROOT / package).rglob("*.py"))
    code = re.sub(r"\"\s*\n\s*f?r?\"", "", code)  # strings that continue on the next line
    rows = re.findall(r"^\| (.*?) \| .* \| .* \|$", text_of(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 40
    missing = []
    for message in quoted:
        parts = [part.strip(" .;:,()") for part in message.replace("'guide2gene'", "…").split("…")]
        missing += [message for part in parts if len(part) > 12 and part not in code]
    assert not missing, missing


def test_the_r_script_reads_a_fit_as_r_does(tmp_path):
    """If R is installed, the script is parsed, and its first steps, which do not need mashr, run on the files of a fit."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("no Rscript")
    adata = data_prep.simulate_fate_screen(data_prep.ScreenDesign(n_cells=600, n_genes=3, n_days=2, guides_per_gene=1, n_ntc_guides=3), seed=1).adata
    adata.uns["guide_map"]["gene_name"] = adata.uns["guide_map"]["gene_name"].replace({"GENE1": "β-gene"})
    guides = adata.obsm["guide"].tolil()
    guides[(adata.obs["day"] == "d1").to_numpy(), 2] = 0
    adata.obsm["guide"] = guides.tocsr()
    with pytest.warns(ScreenWarning, match="no estimate: GENE2 on d1"):
        effects = hierarchy.summarise(hierarchy.fit(data_prep.build_fate_data(data_prep.read_screen(adata), ref_fate="EC")))
    hierarchy.write_effects(effects, tmp_path, contrast_fate="MES:NEU")
    joint = effects.theta_estimate_covariance.reshape(3, 2, 2, 2, 2)
    own = joint[:, 0, :, 0] + joint[:, 1, :, 1] - joint[:, 0, :, 1] - joint[:, 1, :, 0]
    correlation = own[:, 0, 1] / np.sqrt(own[:, 0, 0] * own[:, 1, 1])
    shown = "cat(dim(Bhat), rownames(Bhat), colnames(Shat), dim(V), format(c(Bhat[3, 1], V[1, 2, ]), digits = 6), Bhat[2, 2])\n"
    (tmp_path / "head.R").write_text(text_of(ROOT / "docs" / "mashr.R").split("# 3.")[0] + shown, encoding="utf-8")
    parsed = subprocess.run([rscript, "-e", f"invisible(parse('{ROOT / 'docs' / 'mashr.R'}'))"], capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr
    done = subprocess.run([rscript, "--encoding=UTF-8", tmp_path / "head.R", tmp_path], capture_output=True, text=True, encoding="utf-8")
    words = done.stdout.split()
    assert words[:5] == ["3", "2", *effects.genes] and words[5:10] == ["d0", "d1", "2", "2", "3"], done.stderr
    np.testing.assert_allclose([float(word) for word in words[10:14]], [effects.of_genes("MES:NEU").estimate[2, 0], *np.nan_to_num(correlation)], atol=1e-5)
    assert words[14] == "NA" and list(np.isnan(correlation)) == [False, True, False]
