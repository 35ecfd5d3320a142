"""The words that an explanation names, with the shipped model."""

import random
import uuid

from tests.e2e.conftest import Service

LINES = (
    "I am so happy that you finally called me today!",
    "This is the most disgusting soup that I ever had.",
    "Get out of my house before I throw you out!",
    "I miss my grandmother terribly since she died last winter.",
    "Oh my God, you are getting married in May?",
    "Please don't leave me alone here, I'm scared of the dark.",
    "We won the cup and everybody was dancing in the street!",
    "You lied to me again and I hate you for it.",
    "That is wonderful news, congratulations to both of you!",
    "My dog ran away this morning and I feel awful.",
    "How dare you read my letters without asking me first?",
    "Wow, I did not expect to see you in this town!",
    "I love the way that you sing in the kitchen.",
    "There was mould all over the bread, yuck, how gross.",
    "Nobody came to my party, so I cried all evening.",
    "I'm terrified that the plane will crash with us on it.",
    "What? You sold the car that I gave you?",
    "Thank you so much for the lovely flowers on my desk.",
    "Stop shouting at the children, you stupid man!",
    "It hurts so much that he forgot my birthday.",
)


def test_without_the_words_named_first_the_label_is_less_probable_than_without_others(
    service: Service,
) -> None:
    """The text without them is posted in a dialogue of its own: what a client can check."""
    rng = random.Random(0)

    def probability(text: str, label: str) -> float:
        answer = service.say(f"call-{uuid.uuid4()}", "Ann", text)
        return float(answer["emotion"]["probabilities"][label])

    better = 0
    for line in LINES:
        dialogue = f"call-{uuid.uuid4()}"
        service.say(dialogue, "Ann", line)
        answer = service.client.get(
            f"/dialogues/{dialogue}/utterances/0", params={"explain": "true"}
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        explanation = body["explanation"]
        words = [each["word"] for each in sorted(explanation["words"], key=lambda w: w["start"])]
        assert words == line.split()
        starts = [each["start"] for each in explanation["words"]]
        rest = [start for start in starts if start not in starts[:2]]

        def without(left_out: list[int], words: list[str] = words, line: str = line) -> str:
            places = [line[:start].count(" ") for start in left_out]
            return " ".join(word for n, word in enumerate(words) if n not in places)

        # A prompt that comes from the cache is computed in other steps, which round differently.
        assert abs(explanation["probability"] - body["emotion"]["confidence"]) < 0.02
        named = probability(without(starts[:2]), explanation["label"])
        better += named < probability(without(rng.sample(rest, 2)), explanation["label"])

    assert better >= 0.8 * len(LINES)
