"""``python -m dfkd_exp`` is ``dfkd``."""

from dfkd_exp.app import main

if __name__ == "__main__":
    main()
