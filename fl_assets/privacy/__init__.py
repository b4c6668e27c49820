"""Privacy: accounting, noise, the ledger, secure sums, audits. Knows neither Flower nor Dagster."""
