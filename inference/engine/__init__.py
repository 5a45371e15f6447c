"""The engine: one prefill and one forward a step for all columns of a model."""
