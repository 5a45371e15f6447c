"""The model card: facts, measures, samples, pictures, license and languages."""
