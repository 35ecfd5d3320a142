"""Secrets of endpoints, and signatures made with them, as Standard Webhooks specifies.

Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
import hmac

_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def secret_of(text: str) -> bytes:
    """The bytes of a secret as it is written: `whsec_` and base64.

    Raises:
        ValueError: it is written otherwise, or is too short or too long; the message does not
            show it.
    """
    try:
        if not text.startswith(_PREFIX):
            raise binascii.Error
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is {_PREFIX} and base64") from None
    if not _LEAST_BYTES <= len(secret) <= _MOST_BYTES:
        raise ValueError(
            f"a secret has {_LEAST_BYTES} to {_MOST_BYTES} bytes before base64, not {len(secret)}"
        )
    return secret


def signed_headers(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of an attempt.

    Args:
        webhook_id: the same at each attempt; without a full stop.
        timestamp: of the attempt, in seconds since 1970.
    """
    content = b".".join((webhook_id.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
