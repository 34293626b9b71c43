"""One job a stage: reads tables, calls the stage, writes tables. nightly.py is their order."""
