"""Fault server with TLS, and its certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trustme

from beray.testing import FaultServer, ScriptedResponse


class SecureServer(FaultServer):
    """Fault server with TLS."""

    def __init__(self, answers: Iterable[ScriptedResponse], context: ssl.SSLContext) -> None:
        super().__init__(answers)
        self._context = context
        self.url = self.url.replace("http://127.0.0.1", "https://localhost")

    def _serve(self, connection: Any) -> None:
        raw = connection.dup()
        try:
            secure = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            # Read to the end, because an early close would discard the TLS alert.
            with raw:
                while self._heard(raw):
                    pass
            return
        raw.close()
        super()._serve(secure)

    @staticmethod
    def _heard(raw: Any) -> bytes:
        try:
            heard: bytes = raw.recv(65536)
        except OSError:
            return b""
        return heard


class Certificates:
    """Files of certificates issued by a test authority."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.authority = str(folder / "authority.pem")
        self._authority.cert_pem.write_to_path(self.authority)
        mine, stranger = self._authority.issue_cert("me@a.example"), trustme.CA()
        self.mine = str(folder / "mine.pem")
        mine.private_key_and_cert_chain_pem.write_to_path(self.mine)
        self.pair = str(folder / "cert.pem"), str(folder / "key.pem")
        mine.cert_chain_pems[0].write_to_path(self.pair[0])
        mine.private_key_pem.write_to_path(self.pair[1])
        self.strangers = str(folder / "strangers.pem")
        foreign = stranger.issue_cert("me@b.example")
        foreign.private_key_and_cert_chain_pem.write_to_path(self.strangers)

    def server(
        self, name: str = "localhost", *, demand: bool = False, version: Any = None
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        if demand:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
