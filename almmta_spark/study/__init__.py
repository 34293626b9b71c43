"""Many nights of known truth, and what they say together: records, tables, figures. No Spark, no torch."""
