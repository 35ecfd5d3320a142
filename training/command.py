"""The entry point of `instructerc-train`."""

from service.command import run


def main() -> None:
    """Run the command of training, or say what to install."""
    run("instructerc-train", "training.cli")


if __name__ == "__main__":
    main()
