"""The golden run: its steps, what each describes, and how two runs are compared."""
