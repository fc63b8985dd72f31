"""Measure a model on labelled radiographs as they come: by group, beside other systems, and under stress."""
