"""How good the night's attributions are: grouped uplift, AUUC with intervals, errors against truth, diagnostics."""
