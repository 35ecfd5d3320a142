"""A rules file says what is wrong with it, and shows no secret."""

from pathlib import Path

import pytest

from service.rules.rule_files import RulesError, read_rules
from tests.rules.written import ENDPOINT, RULE, SECRET, SPACES, write


def test_a_rule_needs_little(tmp_path: Path) -> None:
    """It then looks at each turn of everybody by itself."""
    content = read_rules(write(tmp_path, RULE + ENDPOINT), SPACES)

    (rule,) = content.rules
    assert (rule.labels, rule.turns, rule.of_last) == (("anger",), 1, 1)
    assert (rule.speaker, rule.role, rule.tenants, rule.include_text) == (None, None, None, False)
    assert content.endpoints["crm"].url == "https://crm.example.org/hook?token=hidden"
    assert not content.endpoints["crm"].allow_private
    assert content.service_url == ""


def test_everything_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "crm.secret").write_text(f"{SECRET}\n")
    more = 'turns = 3\nof_last = 5\nspeaker = "Ann"\nrole = "customer"\ntenants = ["acme"]\n'
    rule_text = RULE.replace('"anger"', '["Anger", "disgust"]') + more + "include_text = true\n"
    endpoint = (
        "[endpoints.crm]\nurl = 'http://10.0.0.7:8080/hook'\nallow_private = true\n"
        "secret_file = 'crm.secret'\n"
    )
    service_url = 'service_url = "https://erc.example.org/"\n'
    content = read_rules(write(tmp_path, service_url + rule_text + endpoint), SPACES)

    (rule,) = content.rules
    assert (rule.labels, rule.turns, rule.of_last) == (("anger", "disgust"), 3, 5)
    assert (rule.speaker, rule.role, rule.tenants) == ("Ann", "customer", frozenset({"acme"}))
    assert (
        content.endpoints["crm"].secret
        == read_rules(write(tmp_path, RULE + ENDPOINT), SPACES).endpoints["crm"].secret
    )
    assert content.service_url == "https://erc.example.org"
    assert content.files[1] == tmp_path / "crm.secret"


def test_a_label_space_of_tenants_own_is_read_where_tenants_are_named(tmp_path: Path) -> None:
    own = RULE.replace('"meld"', '"callers"') + 'tenants = ["acme"]\n'

    (rule,) = read_rules(write(tmp_path, own + ENDPOINT), SPACES).rules

    assert rule.shares == {"callers": {"anger": {"anger": 1.0}}}


@pytest.mark.parametrize(("space", "tenants"), [("MELD", ""), ("Callers", 'tenants = ["acme"]\n')])
def test_labels_and_label_spaces_are_named_in_any_case(
    tmp_path: Path, space: str, tenants: str
) -> None:
    """As everywhere else; otherwise, a rule would wait for answers that nobody gets."""
    in_capitals = RULE.replace('"meld"', f'"{space}"').replace('"anger"', '"ANGER"') + tenants

    (rule,) = read_rules(write(tmp_path, in_capitals + ENDPOINT), SPACES).rules

    assert rule.labels == ("anger",)
    assert rule.shares == {space.lower(): {"anger": {"anger": 1.0}}}


def test_a_rule_in_sentiment_reads_the_answers_of_every_label_space(tmp_path: Path) -> None:
    """And one in the sentiment of a corpus those of that corpus."""
    negative = RULE.replace('"anger"', '"negative"')
    general = write(tmp_path, negative.replace('"meld"', '"sentiment"') + ENDPOINT)
    (of_all,) = read_rules(general, SPACES).rules
    of_corpus = write(tmp_path, negative.replace('"meld"', '"emorynlp-sentiment"') + ENDPOINT)
    (of_one,) = read_rules(of_corpus, SPACES).rules

    assert of_all.shares.keys() == SPACES.keys()
    assert of_all.shares["meld"]["negative"]["anger"] == 1.0
    assert of_one.shares.keys() == {"emorynlp", "emorynlp-sentiment"}


FAULTS = {
    "rules.angry.probability: Input should be less than or equal to 1": RULE.replace("0.6", "1.6"),
    "rules.angry.of_last: must be at least turns, which is 3": RULE + "turns = 3\nof_last = 2\n",
    "rules.angry.labels: Extra inputs are not permitted": RULE + 'labels = "joy"\n',
    "rules.angry.endpoint: there is no [endpoints.pager]": RULE.replace('"crm"', '"pager"'),
    "rules.angry.label: 'rage' is not a label of meld": RULE.replace('"anger"', '"rage"'),
    "rules.angry.label: a label is given twice": RULE.replace('"anger"', '["anger", "Anger"]'),
    "rules.angry.label_space: 'medl' is not one of": RULE.replace('"meld"', '"medl"'),
    "rules.angry.name: two rules have it; rename one": RULE + RULE,
    "rules.rule 1.name: Field required": RULE.replace('name = "angry"\n', ""),
}


@pytest.mark.parametrize(("fault", "rules"), FAULTS.items())
def test_a_fault_of_a_rule_names_file_rule_and_key(tmp_path: Path, fault: str, rules: str) -> None:
    file = write(tmp_path, rules + ENDPOINT)

    with pytest.raises(RulesError) as refused:
        read_rules(file, SPACES)

    assert str(refused.value).startswith(f"{file}: {fault}")


ENDPOINT_FAULTS = {
    "url must be https, unless allow_private is set": ENDPOINT.replace("https", "http"),
    "url: is no URL such as": ENDPOINT.replace("https://", "https://me:hidden@"),
    "needs either secret or secret_file": ENDPOINT + "secret_file = 'hidden'\n",
    "secret: a secret is whsec_ and base64": ENDPOINT.replace("whsec_", "hidden_"),
    "secret_file: cannot read": ENDPOINT.replace("secret =", "secret_file ="),
    "secret_file: is no path": ENDPOINT.partition("secret =")[0]
    + 'secret_file = "hidden\\u0000"\n',
}


@pytest.mark.parametrize(("fault", "endpoint"), ENDPOINT_FAULTS.items())
def test_a_fault_of_an_endpoint_shows_no_secret(tmp_path: Path, fault: str, endpoint: str) -> None:
    with pytest.raises(RulesError) as refused:
        read_rules(write(tmp_path, RULE + endpoint), SPACES)

    assert "endpoints.crm" in str(refused.value)
    assert fault in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        f'secret = "{SECRET}',
        "\x00",
        f"{SECRET} = 1 = 2",
        pytest.param("a = " + 5000 * "9", id="9s"),
    ],
)
def test_what_is_no_toml_shows_no_secret(tmp_path: Path, content: str) -> None:
    with pytest.raises(RulesError, match=r"is not TOML( at line 1|$)") as refused:
        read_rules(write(tmp_path, content), SPACES)

    assert SECRET not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"cannot read .*rules\.toml: No such file"):
        read_rules(tmp_path / "rules.toml", SPACES)
