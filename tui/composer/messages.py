"""Messages from background work to the screens of the composer."""

from __future__ import annotations

from textual.message import Message

from tui.composer.attachments import Attachment
from tui.composer.listing import DirectoryListing
from tui.composer.sending import SubmitResult


class AttachmentInspected(Message):
    """An attachment was inspected."""

    def __init__(self, attachment: Attachment) -> None:
        super().__init__()
        self.attachment = attachment


class InspectionCancelled(Message):
    """An attachment was removed before its inspection ended."""


class DirectoryListed(Message):
    """A directory was listed for the entered ``text``."""

    def __init__(self, text: str, listing: DirectoryListing) -> None:
        super().__init__()
        self.text = text
        self.listing = listing


class SendCompleted(Message):
    """A task or chat message was sent."""

    def __init__(self, sent: SubmitResult) -> None:
        super().__init__()
        self.sent = sent


class SendFailed(Message):
    """A task or chat message could not be sent."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
