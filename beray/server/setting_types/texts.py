"""Types of settings that are strings; their metadata is the type that the documentation shows."""

from __future__ import annotations

from typing import Annotated

CommaSeparated = Annotated[str, "list"]
CommandLine = Annotated[str, "command line"]
HostName = Annotated[str, "host name"]
MailAddress = Annotated[str, "e-mail address"]
UidRange = Annotated[str, "`FIRST-LAST`"]
Url = Annotated[str, "URL"]
