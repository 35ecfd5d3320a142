"""What people read of a run."""

from pathlib import Path

from tests.bench.floor import Floor
from tests.bench.machine import slug
from tests.bench.measuring import Measurement, Percentiles
from tests.bench.results import read_measurements, write_measurements
from tests.bench.table import floors_table, stages_table, table, targets_table
from tests.bench.targets import Verdict

BATCH = Measurement(
    row="d",
    load="4 at once",
    demonstrations=True,
    what="POST /batch",
    utterances=200,
    seconds=2.0,
    latency_ms=Percentiles(7.25, 80, 90),
    stages_ms={"encode": Percentiles(1, 2, 3.456)},
    prompt_tokens=30_000,
    computed_tokens=12_000,
    rejects=3,
    processor_s=2.6,
    client_processor_s=0.05,
    peak_memory_mib=2345.6,
)
GENERATE = Measurement(
    row="a",
    load="batches of 16",
    demonstrations=None,
    what="generate",
    utterances=100,
    seconds=4.0,
    latency_ms=Percentiles(1, 2, 3),
    prompt_tokens=20_000,
    computed_tokens=26_000,
    processor_s=8.0,
    note="bfloat16",
)


def test_a_line_says_what_an_utterance_takes() -> None:
    """Tokens and processor time are an utterance's, not the run's."""
    line = table([GENERATE, BATCH]).splitlines()[2]

    assert line.split() == [
        *("d", "4", "at", "once", "on", "100.0", "7.2", "80.0", "90.0"),
        *("150", "60", "60%", "3", "13.0", "0.25", "2346"),
    ]


def test_padding_is_no_negative_hit() -> None:
    """A batch that is padded computes more tokens than its prompts have."""
    line = table([GENERATE, BATCH]).splitlines()[1]

    assert line.split() == [
        *("a", "batches", "of", "16", "-", "25.0", "1.0", "2.0", "3.0"),
        *("200", "260", "0%", "0", "80.0", "-", "-"),
    ]


def test_columns_stand_below_their_names() -> None:
    """The names end where the numbers end."""
    lines = table([GENERATE, BATCH]).splitlines()[:3]

    ends = [
        line.index(word) + len(word)
        for line, word in zip(lines, ("utt/s", "25.0", "100.0"), strict=True)
    ]
    assert len(set(ends)) == 1


def test_a_note_stands_below_the_table() -> None:
    """Beside what the row is."""
    assert "a: generate (bfloat16)" in table([GENERATE, BATCH]).splitlines()


def test_stages_have_a_table_of_their_own() -> None:
    """One line a stage."""
    assert stages_table([GENERATE, BATCH]).splitlines()[1].split() == [
        *("d", "4", "at", "once", "on", "encode", "1.00", "2.00", "3.46"),
    ]


def test_without_stages_there_is_no_table_of_them() -> None:
    assert stages_table([GENERATE]) == ""


def test_a_floor_says_what_the_engine_reaches() -> None:
    """Of the utterances that are possible, and of the multiplying."""
    floor = Floor(
        True,
        matrix_rate=2e11,
        operations=20_000_000,
        tokens=25,
        per_second=400,
        engine_share=0.5,
        rate_share=0.8,
    )

    shown = floors_table([floor])

    assert shown.splitlines()[1].split() == ["on", "25.0", "400", "50%", "80%"]
    assert "20.0 million operations each, at 200 billion a second" in shown


def test_without_the_engine_there_are_no_floors() -> None:
    """They are found from what it computed."""
    assert floors_table([]) == ""


def test_without_verdicts_there_is_no_table_of_targets() -> None:
    """A run of a single row compares nothing."""
    assert targets_table([]) == ""


def test_a_missed_target_is_seen_at_a_glance() -> None:
    """In capitals."""
    shown = targets_table(
        [Verdict("batch", 6.5, 6.0, at_least=True), Verdict("share", 0.5, 0.4, at_least=False)]
    ).splitlines()

    assert shown[1].split() == ["batch", "6.50", ">=", "6.00", "met"]
    assert shown[2].split() == ["share", "0.50", "<=", "0.40", "MISSED"]


def test_measurements_pass_from_a_row_to_the_run_unchanged(tmp_path: Path) -> None:
    """Through a file, as each row has a process of its own."""
    write_measurements([GENERATE, BATCH], tmp_path / "measurements.json")

    assert read_measurements(tmp_path / "measurements.json") == [GENERATE, BATCH]


def test_the_results_of_a_machine_are_named_after_its_processor() -> None:
    """Or its GPU, and never after the host."""
    processor = {"processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cores": 8}

    assert slug({"hardware": processor | {"gpus": []}}) == "intel-xeon-platinum-8481c-8-cores"
    assert slug({"hardware": processor | {"gpus": ["NVIDIA H200"]}}) == "nvidia-h200-8-cores"
