"""Responses to errors of work_dirs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import HTTPException

from beray.server.workspace.disk_quota import InsufficientSpace
from beray.server.workspace.safe_open import InvalidPath, MissingPath

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def workspace_errors(effect: str = "Nothing was written") -> Iterator[None]:
    """Convert errors of a work_dir to error responses.

    Args:
        effect: Beginning of the message if the space is insufficient.
    """
    try:
        yield
    except InvalidPath as error:
        raise HTTPException(422, error.reason) from None
    except MissingPath as error:
        raise HTTPException(404, error.reason) from None
    except InsufficientSpace as error:
        status = 413 if error.fits_never else 507
        raise HTTPException(status, f"{effect}: {error.strerror}.") from None
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise HTTPException(507, f"{effect}: {os.strerror(error.errno)}.") from None
