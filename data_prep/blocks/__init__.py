"""Blocks of cells: in memory, in files, on a cluster. Here lives where blocks are and how sums over them are taken, not what is summed."""
