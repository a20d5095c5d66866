"""`python -m elicit`, which launchers such as `accelerate launch -m elicit` start in several processes."""

from elicit.cli import main

if __name__ == "__main__":
    main(prog_name="elicit")
