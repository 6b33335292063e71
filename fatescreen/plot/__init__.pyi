from fatescreen.plot.results import forest as forest
from fatescreen.plot.results import heatmap as heatmap
from fatescreen.plot.results import power as power
from fatescreen.plot.results import qq as qq
from fatescreen.plot.results import trace as trace
from fatescreen.plot.results import volcano as volcano
