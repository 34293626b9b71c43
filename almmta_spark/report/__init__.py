"""The nightly review: what is read (contents, read), what is said (verdict, trends), how it is drawn (page, charts).

One self-contained HTML page a night, from small tables; no user, journey or touch id reaches it.
"""
