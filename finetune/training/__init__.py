"""Training: one attempt of a run, stage by stage."""
