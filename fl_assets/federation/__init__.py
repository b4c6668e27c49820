"""Federated training on Flower: recipes, server and client apps, strategies, runtimes."""
