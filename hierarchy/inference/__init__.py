"""The posterior of the hierarchical model: its families, what each offers (`base.py`), and the algorithms that fit them.

The model itself is in `hierarchy.model`, and what is computed from a posterior is in `hierarchy.effects` and `hierarchy.predictive_checks`.
"""
