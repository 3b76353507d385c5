"""`pantau-agent check`: everything that a site needs, tried once, for the technician there.

`trying` tries it, `show` says it in a language; `rows` is what passes between them.
"""
