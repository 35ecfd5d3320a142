"""What a command loads before it has anything to do."""

import pkgutil
import subprocess
import sys

import training


def loaded(*modules: str) -> set[str]:
    """The libraries that a fresh process has after it has imported these modules."""
    program = f"import sys, {', '.join(modules)}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_training_never_loads_vllm_by_itself() -> None:
    """A machine that trains need not serve; `evaluate` loads it when it starts the engine."""
    every = [m.name for m in pkgutil.walk_packages(training.__path__, "training.")]

    assert {"training.cli", "training.evaluation.evaluate", "training.datasets.meld"} <= set(every)
    assert "vllm" not in loaded(*every)


def test_command_line_loads_no_model_library() -> None:
    """`--help` does not wait for torch."""
    assert loaded("training.cli") & {"torch", "transformers", "peft", "numpy", "vllm"} == set()
