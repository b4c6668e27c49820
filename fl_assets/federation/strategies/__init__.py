"""From updates to the next global model: Flower's strategies, run over named hospitals."""
