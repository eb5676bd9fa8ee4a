"""Programs of other projects, run for real beside the gateway."""
