"""Create the pictures of the dashboard: ``make pictures``, or ``python tools/docs/pictures.py``.

The script starts a server whose language model is scripted, runs tasks, a chat and a prefab, opens
the dashboard without a terminal, and writes ``docs/pictures/NAME.svg`` (dark theme) and
``docs/pictures/NAME-light.svg``. The pictures refer to no other host.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.testing import RunningServer, access_token
from tests.server.agents.fake_openai import MODEL, Call, FakeOpenAI, Reply
from tests.tui.dashboard_pilot import fill, screen, until, until_shown, wait_settled
from tui.app import BeRayApp
from tui.composer.goal import GoalArea
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.form.form import FunctionForm
from tui.prefabs.list_screen import PrefabsScreen
from tui.state.user_state import UserState
from tui.theme import DARK, LIGHT
from tui.widgets.task_list import TaskList

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SIZE = (120, 36)
ROWS = 12  # of the task list, at most
FONTS = re.compile(r"\s*@font-face\s*\{[^}]*\}")
"""Rules with which the export of Textual loads fonts from another host."""
LIGHT_FRAME = (
    ('fill="#292929" stroke="rgba(255,255,255,0.35)"', 'fill="#e9edf2" stroke="rgba(0,0,0,0.2)"'),
    ('-title" fill="#c5c8c6"', '-title" fill="#1f2630"'),
)
"""Replacements in the window around a picture, which the export always draws in dark colours."""
REFERENCE = re.compile(r"url\((?!#)|@import|\b(?:href|src)=(?![\"']#)")
"""Reference to another document."""

DONE = (
    "!git --version && uname -sr",
    "!seq 1 100000 | sha256sum > checksums.txt; cat checksums.txt",
    "!python3 -c 'import json; json.loads(\"{not json}\")'",
    "!find / -name '*.conf' 2>/dev/null | head -3",
)
SUMMARY = "Summarise the three quarters in data/ on one page"
STOPPED = "!sleep 3600"
QUEUED = ("!sh publish.sh staging", "!sh publish.sh production")
QUESTION = "Which shops sold more in every quarter?"
REPORT = r"""
set -e
for quarter in 1 2 3; do
  mkdir -p "data/q$quarter"
  for shop in $(seq 1 $((quarter * 4))); do
    echo "$shop,$((shop * quarter * 1207 % 977))" >> "data/q$quarter/sales.csv"
  done
  echo "quarter $quarter: $(wc -l < "data/q$quarter/sales.csv") shops"
  sleep 0.2
done
echo
echo "the five best shops"
cat data/*/sales.csv | sort -t, -k2 -rn | head -5 |
  awk -F, '{ printf "  %2d. shop %-3d %6d\n", NR, $1, $2 }'
echo
ls -l data
printf 'waiting for the fourth quarter .'
until [ -e data/q4 ]; do printf '.'; sleep 0.3; done
"""
SALES = "shop,q1,q2,q3\nA,120,180,240\nB,310,290,305\nC,95,101,130\nD,400,380,390\n"
PAGE = "# Sales of the first three quarters\n\n- Shop **D** sold most: 1,170.\n- **A** doubled.\n"
SUMMARY_TEXT = (
    "I wrote `summary.md`. The main points:\n\n",
    "| shop | total | trend |\n| --- | ---: | --- |\n| D | 1,170 | stable |\n",
    "| B | 905 | stable |\n| A | 540 | **doubled** |\n| C | 326 | grows slowly |\n",
)
ANSWER_TEXT = (
    "Two shops sold more in every quarter:\n\n",
    "- **A**: 120, 180, 240\n- **C**: 95, 101, 130\n\n",
    "B and D have their best quarter at the beginning of the year.",
)


def reply(body: dict[str, Any]) -> Reply:
    """Return the reply of the scripted model to a request of chat completions."""
    messages: list[dict[str, Any]] = body["messages"]
    asked = max(number for number, entry in enumerate(messages) if entry["role"] == "user")
    results: int = sum(entry["role"] == "tool" for entry in messages[asked:])
    steps: list[Reply]
    if QUESTION in str(messages[asked]["content"]):
        steps = [Reply(calls=[Call("read_file", {"path": "sales.csv"})]), Reply(text=ANSWER_TEXT)]
    else:
        command = "wc -l data/*.csv && sort -t, -k2 -rn data/sales.csv | head -4"
        steps = [
            Reply(
                text=["I look at the data first."],
                calls=[Call("run_command", {"command": command})],
            ),
            Reply(calls=[Call("write_file", {"path": "summary.md", "content": PAGE})]),
            Reply(text=SUMMARY_TEXT),
        ]
    return steps[results]


def finish(client: BeRayClient, task_id: int) -> None:
    """Wait until a task has ended or waits for input."""
    client.wait(task_id, timeout=60, until_input=True)


def prepare(client: BeRayClient) -> None:
    """Create tasks in the states that the pictures show."""
    for goal in DONE:
        finish(client, client.create_task(goal)["id"])
    summary = client.create_task(SUMMARY, start=False)["id"]
    client.upload_file(summary, "data/sales.csv", SALES)
    client.start_task(summary)
    finish(client, summary)
    stopped = client.create_task(STOPPED)["id"]
    for event in client.stream_task_updates(stopped):
        if event.get("status") == "RUNNING":
            client.stop_task(stopped)
    report = client.create_task("!sh report.sh", start=False)["id"]
    client.upload_file(report, "report.sh", REPORT)
    client.start_task(report)
    for goal in QUEUED:
        client.create_task(goal)
    chat = client.open_chat("sales")["id"]
    client.upload_file(chat, "sales.csv", SALES)


class Photographer:
    """Takes pictures of a running dashboard in both themes.

    Args:
        pilot: Controls the dashboard.

    Attributes:
        pictures: SVG documents by file name.
    """

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pictures: dict[str, str] = {}
        self._pilot = pilot

    async def take(self, name: str) -> None:
        """Take a picture in the dark theme and one in the light theme."""
        app = self._pilot.app
        for suffix, theme in (("-light", LIGHT), ("", DARK)):
            app.theme = theme.name
            await wait_settled(self._pilot)
            svg = FONTS.sub("", app.export_screenshot(title="beray"))
            if theme is LIGHT:
                for dark, light in LIGHT_FRAME:
                    svg = svg.replace(dark, light)
            if REFERENCE.search(svg):
                raise ValueError(f"the picture {name} refers to another host")
            self.pictures[f"{name}{suffix}.svg"] = svg


async def take_pictures(app: BeRayApp, tasks: dict[str, int], sales: Path) -> dict[str, str]:
    """Return SVG pictures of the screens, by file name.

    Args:
        app: The dashboard.
        tasks: Ids of the tasks by goal.
        sales: File for the prefab function.
    """
    async with app.run_test(size=SIZE) as pilot:
        photographer = Photographer(pilot)
        await until_shown(pilot, "● online", "1 running")
        await take_tasks(pilot, photographer, tasks)
        await take_chat(pilot, photographer)
        await take_prefab(pilot, photographer, sales)
    return photographer.pictures


async def select(pilot: Pilot[None], task_id: int, *shown: str) -> None:
    """Select a task in the list, and wait for its log."""
    task_list = pilot.app.screen.query_one(TaskList)
    task_list.focus()
    await pilot.press("home")
    for _ in range(ROWS):
        if f"#{task_id} · " in screen(pilot):
            break
        await pilot.press("down")
        await wait_settled(pilot)
    await until_shown(pilot, *shown)


async def take_tasks(pilot: Pilot[None], photographer: Photographer, tasks: dict[str, int]) -> None:
    """Take the pictures of the task list, the log, the files, the composer and the help."""
    await select(pilot, tasks["!sh report.sh"], "● live", "fourth quarter .......")
    await photographer.take("dashboard")
    await pilot.press("question_mark")
    await until_shown(pilot, "Filter")
    await photographer.take("help")
    await pilot.press("escape", "enter", "ampersand", *"shop", "enter")
    await until_shown(pilot, "five best shops")
    await photographer.take("filter")
    await pilot.press("escape", "escape", "f")
    await until_shown(pilot, "report.sh", "sales.csv")
    await photographer.take("files")
    await pilot.press("n")
    await until_shown(pilot, "New task")
    await pilot.press(*"Compare the quarters in data/", "ctrl+j")
    await pilot.press(*"and write what stands out to summary.md")
    await until_shown(pilot, "summary.md")
    await photographer.take("composer")
    await pilot.press("escape", "e")
    await select(pilot, tasks[SUMMARY], "grows slowly")
    await photographer.take("model-task")


async def take_chat(pilot: Pilot[None], photographer: Photographer) -> None:
    """Take the picture of a chat."""
    await pilot.press("c")
    await until_shown(pilot, "A conversation with the agent")
    await fill(pilot, "#name", "sales")
    await until(pilot, lambda: isinstance(pilot.app.focused, GoalArea))
    area = pilot.app.focused
    assert isinstance(area, GoalArea)
    area.load_text(QUESTION)
    await pilot.press("enter")
    await until_shown(pilot, "best quarter at the beginning", "◇ idle")
    await photographer.take("chat")
    await pilot.press("escape")


async def take_prefab(pilot: Pilot[None], photographer: Photographer, sales: Path) -> None:
    """Take the pictures of the form and of the result of a prefab function."""
    await pilot.press("P")
    await until(pilot, lambda: isinstance(pilot.app.screen, PrefabsScreen))
    browsing = pilot.app.screen
    assert isinstance(browsing, PrefabsScreen)
    await until(pilot, lambda: browsing.rows and pilot.app.focused)
    while browsing.selected is None or (
        browsing.selected.summary.id,
        browsing.selected.function,
    ) != ("table", "plot"):
        await pilot.press("down")
    await until(pilot, lambda: browsing.spec is not None and browsing.spec.id == "table")
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
    await until(pilot, lambda: pilot.app.focused is not None)
    pilot.app.screen.query_one(FunctionForm).files[0].set_paths((sales,))
    await until_shown(pilot, "sales.csv")
    await photographer.take("prefab")


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as directory, FakeOpenAI(reply) as model:
        sales = Path(directory, "sales.csv")
        sales.write_text(SALES, "utf-8")
        settings = {
            "BERAY_SLOTS": "1",
            "BERAY_MODEL": f"openai:{MODEL}",
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "unused",
        }
        with RunningServer.start(Path(directory, "server"), settings) as server:
            client = server.sign_up("ada@example.org")
            prepare(client)
            tasks = {task["goal"]: task["id"] for task in client.list_tasks()}
            token = access_token(client)
            target = Target(server.url, "work", token, "ada@example.org")
            memory = UserState(Path(directory, "dashboard"))
            app = BeRayApp(target, Profiles(Path(directory, "profiles.json")), user_state=memory)
            pictures = asyncio.run(take_pictures(app, tasks, sales))
            port = server.url.rpartition(":")[2]
    for name, svg in pictures.items():
        svg = svg.replace(f":{port}", ":8000").replace(directory, "/home/ada")
        (PICTURES / name).write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
