"""From a trained model to attribution rows: the one place where Spark meets torch."""
