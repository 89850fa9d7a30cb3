"""What a call asks for, proven before anything of it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, field_validator
from starlette.concurrency import run_in_threadpool

from beray.sanitize import one_line
from beray.server.accounts.principals import Principal
from beray.server.http.gateway_errors import GatewayHTTPError, invalid_input
from beray.server.http.validation_errors import InputLocation, InputProblem
from beray.server.objects.store import ObjectStore
from beray.server.prefabs import json_schema, run_files
from beray.server.prefabs.manifest import Function
from beray.server.prefabs.registry import Installed, NoSuchPrefab, Registry
from beray.server.prefabs.run_files import Keys
from beray.server.prefabs.secrets import PrefabSecrets
from beray.server.storage.json_values import check_json

Name = Annotated[str, Field(max_length=200)]


_NothingIsEmpty = BeforeValidator(lambda given: {} if given is None else given)


class Inputs(BaseModel):
    parameters: Annotated[dict[str, Any], _NothingIsEmpty] = {}
    files: Annotated[dict[str, list[str]], _NothingIsEmpty] = {}

    @field_validator("parameters")
    @classmethod
    def _plain(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        check_json(parameters)
        return parameters


class Call(BaseModel):
    """One of the calls of a request.

    Source: the Gateway wire page.
    """

    prefab_id: Name
    version: Name | None = None
    """``latest``, or nothing: the newest."""
    function_name: Name
    inputs: Annotated[Inputs, _NothingIsEmpty] = Inputs()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that can begin."""

    prefab: Installed
    name: str
    function: Function
    parameters: Mapping[str, Any]
    keys: Keys
    secrets: Mapping[str, str] = field(repr=False)


class Preparation:
    def __init__(self, registry: Registry, secrets: PrefabSecrets, objects: ObjectStore) -> None:
        self._registry = registry
        self._secrets = secrets
        self._objects = objects

    async def prepare(self, caller: Principal, call: Call, number: int) -> Prepared:
        """Prove that ``call`` can begin.

        Args:
            number: which it is of the request's, for places.

        Raises:
            GatewayHTTPError: it cannot: 404, 422 or 400 (a secret is missing).
        """
        return await run_in_threadpool(self._prepared, caller, call, number)

    def _prepared(self, caller: Principal, call: Call, number: int) -> Prepared:
        try:
            prefab = self._registry.find(call.prefab_id, call.version)
            if prefab.manifest.prefab.status == "disabled":
                raise NoSuchPrefab(f"{prefab.id} {prefab.version.text} is disabled")
            function = prefab.function(call.function_name)
        except NoSuchPrefab as error:
            raise not_found(call.prefab_id, call.version, error) from None
        at: InputLocation = ("calls", number, "inputs")
        schema = function.parameters_schema()
        try:
            parameters = json_schema.completed(schema, call.inputs.parameters)
        except json_schema.TooFar:
            too_far = InputProblem((*at, "parameters"), "the defaults of the schema have no end")
            raise invalid_input([too_far]) from None
        problems = [
            InputProblem((*at, "parameters", *one.loc), one.msg)
            for one in json_schema.value_problems(schema, parameters)
        ]
        keys: Keys = {}
        try:
            keys = run_files.checked(self._objects, function, call.inputs.files)
        except ValueError as error:
            problems += [InputProblem((*at, "files", *one.loc), one.msg) for one in error.args]
        if problems:
            raise invalid_input(problems)
        if function.gateway and caller.user_id is None:
            raise GatewayHTTPError(
                403,
                "FORBIDDEN",
                f"{prefab.id} calls the gateway as its caller, and an address is not a user; call "
                "it with a token or an API key",
            )
        secrets = self._given(caller, prefab, function)
        return Prepared(prefab, call.function_name, function, parameters, keys, secrets)

    def _given(self, caller: Principal, prefab: Installed, function: Function) -> dict[str, str]:
        found: dict[str, str] = {}
        how = f"beray prefab secret set {prefab.id}"
        for secret in function.secrets:
            value = None
            if caller.user_id is not None:
                value = self._secrets.value(caller.user_id, prefab.id, secret.name)
            if value is None:
                raise GatewayHTTPError(
                    400,
                    "MISSING_SECRET",
                    f"{prefab.id} needs the secret {secret.name}: "
                    + (f"{how} {secret.name}" if caller.user_id else "sign in to give it one"),
                    prefab_id=prefab.id,
                    secret_name=secret.name,
                    instructions=secret.instructions,
                )
            found[secret.name] = value
        return found


def not_found(prefab_id: str, version: str | None, error: NoSuchPrefab) -> GatewayHTTPError:
    return GatewayHTTPError(
        404, "PREFAB_NOT_FOUND", str(error), prefab_id=one_line(prefab_id), version=version
    )
