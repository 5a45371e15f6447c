"""From a model reference to text: models, strategies, columns, the engine, metrics."""
