"""Fair scheduling of tasks, chat answers and prefab calls."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter

import pytest

from beray.server.runtime.fair_queue import FairQueue, FairSlots, QueueFull


def taken(queue: FairQueue) -> list[int]:
    """Take items until nothing more may begin."""
    items = []
    while (found := queue.take()) is not None:
        items.append(found[1])
    return items


def test_subjects_take_turns_and_their_items_keep_their_order() -> None:
    queue = FairQueue(slots=9)
    for item in (5, 3, 1, 4):
        queue.add("a", item)
    queue.add("b", 20)
    queue.add("c", 11)
    queue.add("c", 10)
    assert taken(queue) == [1, 20, 10, 3, 11, 4, 5]
    assert len(queue) == 0


def test_a_subject_at_its_limit_leaves_slots_to_others() -> None:
    queue = FairQueue(slots=3, subject_slots=2)
    for item in range(1, 6):
        queue.add("a", item)
    assert taken(queue) == [1, 2]
    queue.add("b", 10)
    queue.add("c", 20)
    assert taken(queue) == [10]
    queue.release("a")
    assert taken(queue) == [20]
    queue.release("a")
    assert taken(queue) == [3]
    queue.release("b")
    assert taken(queue) == [4]
    queue.release("c")
    assert taken(queue) == []


def test_a_removed_item_is_not_taken_and_takes_no_turn() -> None:
    queue = FairQueue(slots=1)
    for item in (1, 2, 3):
        queue.add("a", item)
    queue.add("b", 4)
    assert queue.remove(1)
    assert not queue.remove(1)
    assert not queue.remove(99)
    assert queue.remove(4)
    assert queue.take() == ("a", 2)
    queue.release("a")
    assert queue.take() == ("a", 3)


def test_an_item_that_waits_is_not_added_twice() -> None:
    queue = FairQueue(slots=2)
    queue.add("a", 1)
    queue.add("a", 1)
    assert taken(queue) == [1]


def test_removed_items_do_not_accumulate() -> None:
    kept = 0

    class Item(int):
        def __del__(self) -> None:
            nonlocal kept
            kept -= 1

    queue = FairQueue(slots=1)
    queue.add("a", 0)
    for number in range(1, 10_000):
        item = Item(number)
        kept += 1
        queue.add("a", item)
        queue.remove(item)
    assert kept < 200
    assert queue.take() == ("a", 0)


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_of_operations_loses_no_item_and_no_slot(seed: int) -> None:
    chance = random.Random(seed)
    slots, most = chance.randint(1, 5), chance.randint(1, 5)
    queue = FairQueue(slots, most)
    waiting: dict[int, str] = {}
    used: Counter[str] = Counter()
    for item in range(2_000):
        match chance.randint(0, 3):
            case 0 | 1:
                subject = chance.choice("abcdef")
                queue.add(subject, item)
                waiting[item] = subject
            case 2 if waiting:
                gone = chance.choice(list(waiting))
                assert queue.remove(gone)
                del waiting[gone]
            case 3 if used.total():
                subject = chance.choice(list(used.elements()))
                used[subject] -= 1
                queue.release(subject)
        while (found := queue.take()) is not None:
            subject, number = str(found[0]), found[1]
            assert waiting.pop(number) == subject
            assert number < min((n for n, s in waiting.items() if s == subject), default=10**9)
            used[subject] += 1
        assert used.total() <= slots
        assert max(used.values(), default=0) <= most
        assert len(queue) == len(waiting)
        # A free slot with something that may have it is never left.
        free = used.total() < slots
        assert not (free and any(used[subject] < most for subject in waiting.values()))


def test_no_subject_waits_longer_than_one_round() -> None:
    queue = FairQueue(slots=2, subject_slots=1)
    for number in range(500):
        for item in range(3):
            queue.add(number, item * 1_000 + number)
    served = []
    while (found := queue.take()) is not None:
        served.append(found[0])
        queue.release(found[0])
    rounds = [served[start : start + 500] for start in range(0, 1_500, 500)]
    assert all(len(set(one)) == 500 for one in rounds)


async def test_slots_are_shared_in_turn_and_released() -> None:
    slots = FairSlots(1)
    order: list[str] = []
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def use(subject: str, name: str) -> None:
        async with slots.slot(subject):
            order.append(name)
            begun.set()
            await go_on.wait()

    first = asyncio.create_task(use("a", "a1"))
    await begun.wait()
    waiting = [asyncio.create_task(use(one[0], one)) for one in ("a2", "a3", "a4", "b1", "c1")]
    await asyncio.sleep(0)
    waiting[2].cancel()
    go_on.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert order == ["a1", "b1", "c1", "a2", "a3"]
    async with asyncio.timeout(5), slots.slot("d"):
        order.append("d1")


async def test_a_slot_assigned_to_a_cancelled_coroutine_is_not_lost() -> None:
    slots = FairSlots(1)

    async def use() -> None:
        async with slots.slot("a"):
            pass

    holder = slots.slot("a")
    await holder.__aenter__()
    waiting = asyncio.create_task(use())
    await asyncio.sleep(0)
    # Given and called off in one go of the loop.
    await holder.__aexit__(None, None, None)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with asyncio.timeout(5), slots.slot("b"):
        pass


async def test_more_than_the_maximum_are_rejected_before_they_start() -> None:
    class Subject:
        """User whose end of life can be observed."""

    slots = FairSlots(1, subject_waiting=2)
    go_on = asyncio.Event()
    subject = Subject()
    kept = weakref.ref(subject)

    async def use(subject: Subject) -> None:
        async with slots.slot(subject):
            await go_on.wait()

    def begin(subject: Subject) -> asyncio.Task[None]:
        slots.require_place(subject)
        task = asyncio.create_task(use(subject))
        slots.count(subject, task)
        return task

    begun = [begin(subject), begin(subject)]
    with pytest.raises(QueueFull, match="2 of your calls are already waiting"):
        begin(subject)
    slots.require_place("b", 2)
    await asyncio.sleep(0)
    begun.append(begin(subject))
    with pytest.raises(QueueFull):
        slots.require_place(subject)
    go_on.set()
    await asyncio.gather(*begun)
    await asyncio.sleep(0)
    slots.require_place(subject, 2)
    del subject
    begun.clear()
    gc.collect()
    assert kept() is None, "a user without calls is forgotten"
