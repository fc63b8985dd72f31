"""How good predictions are: metrics, intervals, calibration, plots."""
