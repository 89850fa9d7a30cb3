"""Routes of the one-time link that creates the first administrator: ``/setup``. BeRay extension."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import Field

from beray import schema
from beray.server.accounts.first_administrator import SETUP_PATH
from beray.server.api.accounts import CodeRequest, NewPassword, session_to_wire
from beray.server.api.dependencies import AppServices, CurrentActor
from beray.server.api.error_statuses import error_statuses
from beray.server.http.strict_json import StrictRoute

router = APIRouter(tags=["administration"], route_class=StrictRoute)

_PAGE: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BeRay: first administrator</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 10vh auto; max-width: 26rem; padding: 0 1rem;
  color: #1c2433; background: #fff; }}
label {{ display: block; margin: 1rem 0 .25rem; }}
input, button {{ font: inherit; box-sizing: border-box; width: 100%; padding: .5rem .6rem;
  border: 1px solid #8a94a6; border-radius: 6px; }}
button {{ margin-top: 1.5rem; background: #1f4fd8; border-color: #1f4fd8; color: #fff; }}
p[role=status] {{ min-height: 3em; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e6e9f0; background: #14181f; }}
  input {{ color: inherit; background: #1d232d; }} }}
</style>
<h1>First administrator</h1>
<form>
<p>This server has no administrator. Create the account that manages its users.</p>
<label for="email">E-mail address</label>
<input id="email" type="email" autocomplete="username" required>
<label for="password">Password (at least 8 characters)</label>
<input id="password" type="password" autocomplete="new-password" minlength="8" required>
<button>Create administrator</button>
<p role="status"></p>
</form>
<script>
const token = location.hash.slice(1);
const status = document.querySelector("[role=status]");
const form = document.querySelector("form");
form.addEventListener("submit", async (event) => {{
  event.preventDefault();
  status.textContent = "Creating …";
  try {{
    const response = await fetch("{schema.API_PREFIX}/auth/setup", {{
      method: "POST",
      headers: {{ "Content-Type": "application/json" }},
      body: JSON.stringify({{ token, email: email.value, password: password.value }}),
    }});
    const answer = await response.json();
    if (response.ok) {{
      form.replaceChildren("The administrator was created. Sign in with: beray login");
      history.replaceState(null, "", location.pathname);
    }} else {{
      const detail = answer.detail;
      status.textContent = typeof detail === "string" ? detail
        : detail.map((problem) => problem.loc.at(-1) + ": " + problem.msg).join("; ");
    }}
  }} catch (error) {{
    status.textContent = "The server did not respond: " + error.message;
  }}
}});
</script>
</html>
"""
_CLOSED_PAGE: Final = (
    _PAGE.partition("<form>")[0]
    + "<p>This link is not valid any more: the server has an administrator, who can invite others."
    "</p>\n</html>\n"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class SetupRequest(CodeRequest):
    """Body of the creation of the first administrator."""

    token: str = Field(max_length=200, description="Part of the link after `#`.")
    password: NewPassword


@router.get(SETUP_PATH, response_class=HTMLResponse)
async def setup_page(app: AppServices) -> HTMLResponse:
    """Return the page of the link that `beray serve` prints. BeRay extension."""
    page = _PAGE if app.first_administrator.is_open else _CLOSED_PAGE
    return HTMLResponse(page, headers=_HEADERS)


@router.post(
    f"{schema.API_PREFIX}/auth/setup",
    responses=error_statuses(
        {
            403: "The link is wrong or was used.",
            409: "The address is already registered, or the server has an administrator.",
            422: "The address or the password is invalid.",
        }
    ),
)
async def create_first_administrator(
    body: SetupRequest, actor: CurrentActor, app: AppServices
) -> schema.Session:
    """Create the first administrator with the token of the link, and sign in. BeRay extension."""
    if not app.first_administrator.matches(body.token):
        raise HTTPException(
            403,
            "The link is wrong or was used. `beray serve` prints a new one at its start while the "
            "server has no administrator.",
        )
    signed_in = await app.accounts.create_first_administrator(body.email, body.password, actor)
    app.first_administrator.close()
    return session_to_wire(signed_in)
