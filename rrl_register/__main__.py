"""``python -m rrl_register`` is the command line."""

from rrl_register.cli import main

if __name__ == "__main__":
    main(prog_name="rrl-register")
