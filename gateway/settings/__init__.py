"""The configuration: what may be configured, how it is read and checked, and how it is shown.

Only the core's options are declared here; those of a feature are in its folder,
and ``gateway/configuration.py`` composes both. Nothing here imports a composed
model, a feature or anything that serves requests.
"""
