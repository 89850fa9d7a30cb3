"""Validation of call requests before any function runs."""

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
from beray.server.prefabs.manifest import FunctionSpec
from beray.server.prefabs.registry import InstalledPrefab, PrefabNotFound, PrefabRegistry
from beray.server.prefabs.run_files import ObjectKeys
from beray.server.prefabs.secrets import PrefabSecrets
from beray.server.storage.json_values import check_json

Name = Annotated[str, Field(max_length=200)]


_NullAsEmpty = BeforeValidator(lambda value: {} if value is None else value)


class CallInputs(BaseModel):
    """Parameters and input files of a call."""

    parameters: Annotated[dict[str, Any], _NullAsEmpty] = {}
    files: Annotated[dict[str, list[str]], _NullAsEmpty] = {}

    @field_validator("parameters")
    @classmethod
    def _check_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        check_json(parameters)
        return parameters


class CallRequest(BaseModel):
    """One call of a run request.

    Source: the Gateway wire page.
    """

    prefab_id: Name
    version: Name | None = None
    """``latest`` or None selects the newest version."""
    function_name: Name
    inputs: Annotated[CallInputs, _NullAsEmpty] = CallInputs()


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A validated call that is ready to run."""

    prefab: InstalledPrefab
    name: str
    function: FunctionSpec
    parameters: Mapping[str, Any]
    keys: ObjectKeys
    secrets: Mapping[str, str] = field(repr=False)


class CallPreparer:
    """Validator of call requests."""

    def __init__(
        self, *, registry: PrefabRegistry, secrets: PrefabSecrets, objects: ObjectStore
    ) -> None:
        self._registry = registry
        self._secrets = secrets
        self._objects = objects

    async def prepare(self, caller: Principal, call: CallRequest, number: int) -> PreparedCall:
        """Validate a call and look up its prefab, parameters, files and secrets.

        Args:
            caller: Principal whose files and secrets the call may use.
            call: The call.
            number: Index of the call in its request, for the places of problems.

        Raises:
            GatewayHTTPError: The prefab or function does not exist (404), the inputs are invalid
                (422), a secret is missing (400), or the caller has to be a user (403).
        """
        return await run_in_threadpool(self._prepared, caller, call, number)

    def _prepared(self, caller: Principal, call: CallRequest, number: int) -> PreparedCall:
        try:
            prefab = self._registry.find(call.prefab_id, call.version)
            if prefab.manifest.prefab.status == "disabled":
                raise PrefabNotFound(f"{prefab.id} {prefab.version.text} is disabled")
            function = prefab.function(call.function_name)
        except PrefabNotFound as error:
            raise prefab_not_found(call.prefab_id, call.version, error) from None
        place: InputLocation = ("calls", number, "inputs")
        schema = function.parameters_schema()
        try:
            parameters = json_schema.apply_defaults(schema, call.inputs.parameters)
        except json_schema.ReferenceLimitExceeded:
            reason = "the defaults of the schema refer to each other without end"
            raise invalid_input([InputProblem((*place, "parameters"), reason)]) from None
        problems = [
            InputProblem((*place, "parameters", *found.loc), found.msg)
            for found in json_schema.value_problems(schema, parameters)
        ]
        keys: ObjectKeys = {}
        try:
            keys = run_files.check_input_files(self._objects, function, call.inputs.files)
        except ValueError as error:
            problems += [
                InputProblem((*place, "files", *found.loc), found.msg) for found in error.args
            ]
        if problems:
            raise invalid_input(problems)
        if function.gateway and caller.user_id is None:
            raise GatewayHTTPError(
                403,
                "FORBIDDEN",
                f"{prefab.id} calls the gateway on behalf of its caller, which must be a user; "
                "send a token or an API key",
            )
        secrets = self._secret_values(caller, prefab, function)
        return PreparedCall(prefab, call.function_name, function, parameters, keys, secrets)

    def _secret_values(
        self, caller: Principal, prefab: InstalledPrefab, function: FunctionSpec
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        command = f"beray prefab secret set {prefab.id}"
        for secret in function.secrets:
            value = None
            if caller.user_id is not None:
                value = self._secrets.value(caller.user_id, prefab.id, secret.name)
            if value is None:
                raise GatewayHTTPError(
                    400,
                    "MISSING_SECRET",
                    f"{prefab.id} needs the secret {secret.name}: "
                    + (f"{command} {secret.name}" if caller.user_id else "sign in to set it"),
                    prefab_id=prefab.id,
                    secret_name=secret.name,
                    instructions=secret.instructions,
                )
            found[secret.name] = value
        return found


def prefab_not_found(
    prefab_id: str, version: str | None, error: PrefabNotFound
) -> GatewayHTTPError:
    """Return the 404 for a prefab, version or function that does not exist."""
    return GatewayHTTPError(
        404, "PREFAB_NOT_FOUND", str(error), prefab_id=one_line(prefab_id), version=version
    )
