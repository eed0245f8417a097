"""Training: events, compiled steps, feeds, posterior draws."""
