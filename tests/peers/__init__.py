"""Programs that nobody here wrote, run for real beside the gateway."""
