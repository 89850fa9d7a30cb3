"""What background work tells the screens of the composer."""

from __future__ import annotations

from textual.message import Message

from tui.composer.attachments import Attachment
from tui.composer.listing import Listing
from tui.composer.sending import Sent


class LookedAt(Message):
    """What an attachment holds."""

    def __init__(self, attachment: Attachment) -> None:
        super().__init__()
        self.attachment = attachment


class LookCalledOff(Message):
    """It was removed before it was known."""


class Listed(Message):
    """The entries for what was typed."""

    def __init__(self, text: str, listing: Listing) -> None:
        super().__init__()
        self.text = text
        self.listing = listing


class OrderSent(Message):
    def __init__(self, sent: Sent) -> None:
        super().__init__()
        self.sent = sent


class OrderRefused(Message):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
