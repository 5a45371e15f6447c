"""Tunescope's page: `python app.py` opens it on http://127.0.0.1:7860. Importing this does nothing."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until it is interrupted. Return 2, with a sentence on stderr, for an address that cannot be
    used."""
    from core import limits, logs
    from core.errors import UserError
    from core.runtime import no_bar_monitors, quiet_libraries, share_the_cores
    from finetune.backup.places import place_from_settings
    from inference.compare import zerogpu
    from ui.web.address import choose

    share_the_cores()
    no_bar_monitors()
    quiet_libraries()
    zerogpu.prepare()

    try:
        address = choose(arguments)
        limits.check_variables()
        logs.set_up()
        place = place_from_settings()
        from ui.server import serve

        return serve(address, place)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
