"""The corpora of the training tests, as recipes name them."""

from training.recipe import CorpusFile

TALKS = CorpusFile.model_validate({"format": "jsonl", "path": "talks.jsonl", "label_space": "meld"})
OTHERS = CorpusFile.model_validate(
    {"format": "jsonl", "path": "others.jsonl", "label_space": "emorynlp"}
)
