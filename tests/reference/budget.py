"""The retry budget as its specification reads: what pays in, what is forgotten, what is taken."""

from __future__ import annotations

import math

WHOLE = 1.0 - 1e-6


class Payer:
    """The traffic before one breaker: what it had come to when it was last read."""

    def __init__(self, now: int) -> None:
        self.at = now
        self.calls = 0  # retries among them
        self.retries = 0
        self.read = 0


class Budget:
    """Times in nanoseconds, the window in seconds."""

    def __init__(self, share: float, floor: float, window: float, now: int) -> None:
        self.share, self.floor, self.window = share, floor, window
        self.at = now
        self.balance = floor * window
        self.owed = 0.0
        self.refused = 0

    def pay(self, payer: Payer, now: int) -> None:
        self.pass_time(now)
        own = payer.calls - payer.retries
        self.balance += self.left_of(self.share * (own - payer.read), now - payer.at)
        payer.read, payer.at = own, now

    def retry(self, payer: Payer, now: int) -> bool:
        self.pay(payer, now)
        if not self.take():
            return False
        payer.retries += 1
        return True

    def hedge(self, payer: Payer, now: int) -> bool:
        self.pay(payer, now)
        return self.take()

    def take(self) -> bool:
        if self.balance < WHOLE:
            self.refused += 1
            return False
        self.balance -= 1.0
        self.owed += 1.0
        return True

    def pass_time(self, now: int) -> None:
        kept = math.exp(-self.windows(now - self.at))
        income = self.floor * (now - self.at) / 1e9
        self.balance = self.balance * kept + self.left_of(income, now - self.at)
        self.owed *= kept
        self.at = now

    def left_of(self, amount: float, time: int) -> float:
        """Of what came evenly over so long."""
        windows = self.windows(time)
        return amount * -math.expm1(-windows) / windows if windows > 0.0 else amount

    def windows(self, time: int) -> float:
        return time / 1e9 / self.window
