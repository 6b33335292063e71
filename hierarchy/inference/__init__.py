"""The posterior of the hierarchical model: how it is represented, and how it is found.

The model itself is in `hierarchy.model`; what is reported of a posterior is in `hierarchy.effects`.
"""
