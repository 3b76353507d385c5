"""The centre: stores readings, judges sites, publishes verdicts and alerts."""
