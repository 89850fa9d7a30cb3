"""Create the screenshots of the dashboard: ``python tools/docs/pictures.py``.

The script starts a server, runs a few tasks, opens the dashboard without a terminal, and writes
the screenshots to ``docs/pictures/*.svg``.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.testing import RunningServer, access_token
from tests.tui.dashboard_pilot import until_shown
from tui.app import BeRayApp
from tui.state.user_state import UserState

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SIZE = (120, 36)
GOALS = (
    "!git --version && uname -sr",
    "!seq 1 100000 | sha256sum > checksums.txt; cat checksums.txt",
    "!python3 -c 'import json; json.loads(\"{not json}\")'",
    "Summarise the three reports in data/ on one page",
    "!find / -name '*.conf' 2>/dev/null | head -3",
)
STOPPED = "!sleep 3600"
QUEUED = ("!sh publish.sh staging", "!sh publish.sh production")
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


def prepare(client: BeRayClient) -> None:
    """Create tasks in the states that the screenshots show."""
    for goal in GOALS:
        for _ in client.stream_task_updates(client.create_task(goal)["id"]):
            pass
    stopped = client.create_task(STOPPED)["id"]
    for event in client.stream_task_updates(stopped):
        if event.get("status") == "RUNNING":
            client.stop_task(stopped)
    report = client.create_task("!sh report.sh", start=False)["id"]
    client.upload_file(report, "report.sh", REPORT)
    client.start_task(report)
    for goal in QUEUED:
        client.create_task(goal)


async def take_screenshots(app: BeRayApp) -> dict[str, str]:
    """Return SVG screenshots of the main screens, by file name without suffix."""
    screenshots: dict[str, str] = {}
    async with app.run_test(size=SIZE) as pilot:

        def take_screenshot(name: str) -> None:
            screenshots[name] = app.export_screenshot(title="beray")

        await until_shown(pilot, "● online", "1 running")
        await pilot.press("down", "down")
        await until_shown(pilot, "● live", "fourth quarter .......")
        take_screenshot("dashboard")
        await pilot.press("enter", "ampersand", *"shop", "enter")
        await until_shown(pilot, "five best shops")
        take_screenshot("filter")
        await pilot.press("escape", "escape", "f")
        await until_shown(pilot, "report.sh", "sales.csv")
        take_screenshot("files")
        await pilot.press("n")
        await until_shown(pilot, "New task")
        await pilot.press(*"Compare the quarters in data/", "ctrl+j")
        await pilot.press(*"and write what stands out to summary.md")
        await until_shown(pilot, "summary.md")
        take_screenshot("composer")
    return screenshots


def main() -> None:
    """Write the screenshots."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory, "server")
        with RunningServer.start(data_dir, BERAY_SLOTS="1") as server:
            client = server.sign_up("ada@example.org")
            prepare(client)
            token = access_token(client)
            target = Target(server.url, "work", token, "ada@example.org")
            memory = UserState(Path(directory, "dashboard"))
            app = BeRayApp(target, Profiles(Path(directory, "profiles.json")), user_state=memory)
            screenshots = asyncio.run(take_screenshots(app))
            port = server.url.rpartition(":")[2]
    for name, svg in screenshots.items():
        (PICTURES / f"{name}.svg").write_text(svg.replace(port, "8000"), "utf-8")


if __name__ == "__main__":
    main()
