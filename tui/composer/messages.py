"""Messages from background work to the screens of the composer."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from tui.composer.attachments import Attachment
from tui.composer.listing import DirectoryListing
from tui.composer.sending import SubmitResult


@dataclass(eq=False, repr=False)
class AttachmentInspected(Message):
    """An attachment was inspected."""

    attachment: Attachment


class InspectionCancelled(Message):
    """An attachment was removed before its inspection ended."""


@dataclass(eq=False, repr=False)
class DirectoryListed(Message):
    """A directory was listed for the entered ``text``."""

    text: str
    listing: DirectoryListing


@dataclass(eq=False, repr=False)
class SendCompleted(Message):
    """A task or chat message was sent."""

    sent: SubmitResult


@dataclass(eq=False, repr=False)
class SendFailed(Message):
    """A task or chat message could not be sent."""

    error: Exception
