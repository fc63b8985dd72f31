"""Studies with bone ages: how far readers agree, and a model with them."""
