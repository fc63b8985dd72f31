"""The review desk: review prepared radiographs in the browser, and correct crops and masks."""
