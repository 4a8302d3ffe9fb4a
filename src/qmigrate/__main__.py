"""``python -m qmigrate``: the same as the command ``qmigrate``. Nothing else belongs here."""

from qmigrate.cli import main

if __name__ == "__main__":
    main()
