"""The cells that units are compared on, in blocks: what a block holds, where its arrays are, and the sums over it that the test consists of, on CPU or device.

What a unit, a statistic or a p-value is made of from these sums is in the rooms beside this one.
"""
