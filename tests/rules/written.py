"""Rules files as people write them."""

from collections.abc import Mapping
from pathlib import Path

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import AnyLabelSpace, load_label_spaces

FOLDER = Path(__file__).parents[2] / "data" / "label_spaces"
TRAINED = load_label_spaces(FOLDER)
SPACES: Mapping[str, AnyLabelSpace] = {**TRAINED, **load_derived_label_spaces(FOLDER, TRAINED)}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

RULE = """[[rules]]
name = "angry"
label = "anger"
label_space = "meld"
probability = 0.6
endpoint = "crm"
"""
ENDPOINT = f"""[endpoints.crm]
url = "https://crm.example.org/hook?token=hidden"
secret = "{SECRET}"
"""


def write(folder: Path, content: str) -> Path:
    file = folder / "rules.toml"
    file.write_text(content)
    return file
