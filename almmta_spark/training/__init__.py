"""Training of the models over one or many processes. Never imports pyspark: the Spark job starts it."""
