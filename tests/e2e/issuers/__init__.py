"""Identity providers: how their keys are found, changed and missed."""
