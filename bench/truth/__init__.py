"""The judge: a story with a known truth, and what Pantau made of it.

Nothing of Pantau is imported here (`tests/test_arrows.py` sees to it): a judge
shares no code with the judged. What it reads is documented: MQTT, the commands
with ``--json``, and for single readings the tables of the SQLite store.
"""
