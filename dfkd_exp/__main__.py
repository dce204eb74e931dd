"""``dfkd``, and ``python -m dfkd_exp``: the command, which can be stopped from its first moment on."""

from dfkd_exp.stopping import at_signals
from dfkd_exp.terminal import at_terminal


def main() -> None:
    with at_terminal(), at_signals():
        from dfkd_exp.app import main  # takes a second

        main()


if __name__ == "__main__":
    main()
