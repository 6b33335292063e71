"""The cells that units are compared on, in blocks: what a block holds, where its arrays are stored, and the sums over it that the test consists of."""
