"""``python -m gateway`` is the ``gateway`` command.

Features that cannot be composed, add no commands or fail in a check end it with one line and exit code 1.
"""

import sys

import click

from gateway.settings.feature_faults import FeatureError


def main() -> None:
    """Run the command line of this process."""
    try:
        from gateway import cli  # noqa: PLC0415 - what it imports composes the features

        cli.main()
    except FeatureError as error:
        click.echo(f"gateway: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
