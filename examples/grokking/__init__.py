"""The reference workload: grokking of modular arithmetic, with the complexity of the network measured while it trains."""
