"""Signatures that receivers verify."""

import pytest

from service.rules.signatures import secret_of, signed_headers


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Their libraries' own vector."""
    headers = signed_headers(
        secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "text",
    [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa!w",
        "whsec_c2hvcnQ=",
        "whsec_" + "QUFB" * 22,
        "",
    ],
)
def test_another_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a secret ") as refused:
        secret_of(text)
    assert text.removeprefix("whsec_") == "" or text.removeprefix("whsec_") not in str(
        refused.value
    )
