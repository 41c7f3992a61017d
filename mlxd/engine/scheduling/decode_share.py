"""When running streams go on alone, while prompts are computed beside them: no MLX, no clock."""

FORGET = 0.85
"""What the decode steps before count for with each new one."""


class DecodeShare:
    """After a piece of prefill that took p seconds only decode steps follow, for `share` x p.

    Times are those of the step loop: the device begins a decode step while the one before is
    read, and computes it with the piece of prefill that follows. So the time of one decode step
    is in that of the piece, and missing in that of the step after it; it is put right here.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._owed = 0.0
        self._seconds = self._steps = 0.0
        self._behind_piece = False

    @property
    def due(self) -> bool:
        """Whether the next step is to decode alone, if there is anything to decode."""
        return self._owed > 0

    def stepped(self, decode: float, piece: float) -> float:
        """A step is done: the seconds that its decoding took, and its piece of prefill, if any.

        Returns the seconds that the piece took by itself.
        """
        # Behind a piece a decode step was computed with it, and its time says nothing.
        if not self._behind_piece:
            self._seconds = FORGET * self._seconds + decode
            self._steps = FORGET * self._steps + 1
        self._behind_piece = piece > 0
        each = self._seconds / self._steps if self._steps else 0.0
        # The rows may be fewer by now than when a step was timed: no piece is taken for free.
        own = max(piece / 2, piece - each)
        if piece or self._owed > 0:
            # What was decoded beyond the share counts for the next piece, but no older credit.
            self._owed = max(self._owed + self._share * own - each, -each)
        return own

    def nothing_decodes(self) -> None:
        """There is no stream to keep going."""
        self._owed = 0.0
        self._behind_piece = False
