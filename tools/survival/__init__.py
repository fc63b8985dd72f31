"""How the commands survive kills and faults: see `tools/reliability.py`."""
