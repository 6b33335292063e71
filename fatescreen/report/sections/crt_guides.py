"""Section of the report on conditional randomization tests on the guides of hits."""

from crt.hits.guides import GuideTests
from fatescreen.figures import Estimate, forest_plot
from fatescreen.report.blocks import MAX_ROWS, Block, Column, Figure, Figures, Prose, Section, Table
from fatescreen.report.inline_svg import panel

FOREST_HITS, FOREST_GUIDES = 6, 15
COLUMNS = (
    Column(key="target", label="target"),
    Column(key="program", label="program"),
    Column(key="beta", label="β", kind="effect"),
    Column(key="p_adj", label="p_adj", kind="p"),
    Column(key="n_guides", label="guides", kind="count", help="guides that could be tested"),
    Column(key="guides_agree", label="agree", kind="count", help="guides whose effect has the sign of the gene’s"),
    Column(key="p_leave_one_out", label="p without one", kind="p", help="largest p-value of the gene without one of its guides"),
    Column(key="robust", label="robust", help="whether the hit remains one without any one of its guides"),
    Column(key="beta_centred", label="β centred", kind="effect", help="β minus the gene’s median effect over programs"),
    Column(key="p_centred", label="p centred", kind="p", help="p-value of the test that the effect equals the gene’s median effect"),
)


def guides_section(tests: GuideTests) -> Section:
    """The hits with the agreement of their guides, and forest plots of the guides of the strongest."""
    hits = tests.hits
    if hits.empty:
        return Section(id="guides", title="Guides of hits", blocks=[Prose(text=["There are no discoveries at a 10 % false discovery rate."])])
    frame = hits.assign(robust=hits["robust"].map({True: "yes", False: "no"}).fillna("–"))
    columns = [column for column in COLUMNS if column.key in frame]
    fragile = int((hits["robust"] == False).sum())  # noqa: E712 (None for genes with one guide)
    text = f"{fragile:,} of {len(hits):,} hits are no discovery any more if one of the guides is left out. Such an effect may be off-target."
    blocks: list[Block] = [
        Prose(text=[text]),
        Table(
            id="hits",
            caption="Hits, strongest first.",
            columns=columns,
            frame=frame[[c.key for c in columns]].iloc[:MAX_ROWS],
            total=len(frame),
            full="crt_hits.csv",
        ),
        Figures(items=[_forest(tests, row) for row in range(min(FOREST_HITS, len(hits)))]),
    ]
    return Section(id="guides", title="Guides of hits", blocks=blocks)


def _forest(tests: GuideTests, row: int) -> Figure:
    """The gene and its guides."""
    hit = tests.hits.iloc[row]
    own = tests.guides[(tests.guides["target"] == hit["target"]) & (tests.guides["program"] == hit["program"]) & tests.guides["p"].notna()].head(FOREST_GUIDES)
    gene = Estimate(name=str(hit["target"]), mean=float(hit["beta"]), sd=float(hit["se"]), main=True)
    guides = [Estimate(name=str(g.guide), mean=float(g.beta), sd=float(g.se), main=False) for g in own.itertuples()]
    axes = forest_plot([[gene, *guides]], x_label="β", ax=panel(75 + 15 * len(guides)))
    return Figure(axes=axes, title=f"{hit['target']}, {hit['program']}", caption="The gene (diamond) and its guides, with 90 % and 95 % intervals.")
