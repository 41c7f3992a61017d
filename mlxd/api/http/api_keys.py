"""API keys: where clients put them, whether they are right, and how often one may guess."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlxd.errors import RateLimited, Unauthorized

KEY_HEADERS = ("x-api-key", "api-key")
FAILURES_PER_SECOND = 10.0
"""Wrong keys of one address that are answered as such; more are told to wait."""
MAX_ADDRESSES = 4096
"""Addresses whose failures are remembered."""


def presented_keys(fields: Iterable[tuple[str, str]]) -> list[str]:
    """The keys in header fields, wherever clients put them, each once; empty ones are none."""
    keys = []
    for name, value in fields:
        if name.lower() == "authorization":
            scheme, _, credentials = value.strip().partition(" ")
            if scheme.lower() == "bearer":
                keys.append(credentials.strip())
        elif name.lower() in KEY_HEADERS:
            keys.append(value.strip())
    return [key for key in dict.fromkeys(keys) if key]


class KeyRing:
    """The configured keys, as hashes."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def identify(self, presented: list[str]) -> str:
        """The short hash of the caller's key; raises `Unauthorized`.

        Header values come as Latin-1 text.
        """
        if not presented:
            raise Unauthorized("You didn't provide an API key.")
        # Whichever counted, a proxy in front could have checked the other one.
        if len(presented) > 1:
            raise Unauthorized("Two different API keys were provided.")
        # `replace`: what is not Latin-1 can't be a key, and must not be a crash either.
        digest = hashlib.sha256(presented[0].encode("latin-1", "replace")).digest()
        # A list before `any`: every key is compared, each in constant time, so that how long it
        # takes shows neither which key was nearly right nor where the right one stands.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized
        return digest.hex()[:12]


@dataclass
class _Allowance:
    left: float
    updated: float


class FailureLimit:
    """How often each address may present a wrong key: a token bucket an address."""

    def __init__(self, clock: Callable[[], float], rate: float = FAILURES_PER_SECOND) -> None:
        self._clock = clock
        self._rate = rate
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises `RateLimited` while `address` has failed too often."""
        if self._allowance(address).left < 1:
            raise RateLimited(reason="Too many attempts with a wrong API key.")

    def failed(self, address: str) -> None:
        """`address` presented a wrong key."""
        allowance = self._allowance(address)
        allowance.left -= 1
        self._allowances[address] = allowance
        # Who failed longest ago is forgotten first, so whoever goes on guessing stays limited.
        self._allowances.move_to_end(address)
        if len(self._allowances) > MAX_ADDRESSES:
            self._allowances.popitem(last=False)

    def _allowance(self, address: str) -> _Allowance:
        now = self._clock()
        known = self._allowances.get(address)
        if known is None:
            return _Allowance(self._rate, now)
        regained = (now - known.updated) * self._rate
        return _Allowance(min(self._rate, known.left + regained), now)
